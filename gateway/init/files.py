"""The text of the files that `init` writes: the configuration, the environment, the first key (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from gateway.config.addresses import Url
from gateway.config.problems import quote
from gateway.config.tree import ScalarKind, plain_scalar
from gateway.flowise.chatflows import Chatflow
from gateway.init.names import key_variable, route_names
from gateway.records import DiscreetRecord

MAIN, SECRET, KEY = "main", "GATEWAY_SECRET", "FLOWISE_API_KEY"
LISTEN = "127.0.0.1:8080"
_SAFE_IN_SHELL = re.compile(r"[A-Za-z0-9_.,:/@%+=-]*")

_CONFIG = """\
# Made by `flowise-gateway init`. All other keys have defaults: `flowise-gateway schema` describes them.
# The variables are in .env beside this file; `serve` does not read it by itself:
#
#   set -a; . ./.env; set +a
#   flowise-gateway check --config gateway.yaml
#   flowise-gateway doctor --config gateway.yaml
#   flowise-gateway serve --config gateway.yaml

server:
  listen: {listen}          # 0.0.0.0:8080 for connections from other machines

upstreams:
{upstreams}
auth:
  secret: ${{{secret}}}
  keys_file: keys.yaml            # `flowise-gateway keys create --config gateway.yaml --name N` adds one

routes:
{routes}"""
_ENV = """\
# Made by `flowise-gateway init`. Secrets: keep this file to yourself, and out of version control.
# Load it with `set -a; . ./.env; set +a`, Docker's --env-file, or EnvironmentFile= of systemd.
"""


class RouteAccess(Struct, frozen=True):
    """Who may call the routes. `origins`: the pages of other hosts that may; without any, no browser may."""

    is_public: bool = False
    origins: tuple[str, ...] = ()


class PlannedRoute(Struct, frozen=True):
    """A route to be written. `variable`: holds its API key for Flowise."""

    name: str
    flow: Chatflow
    upstream: str
    variable: str


class Plan(DiscreetRecord, frozen=True):
    """What the files will say.

    Attributes:
        secrets: the values of variables, by name; an empty one is for the user to write.
        streaming: the ids of the chatflows that stream.
    """

    url: Url
    access: RouteAccess
    routes: tuple[PlannedRoute, ...]
    secrets: Mapping[str, str]
    streaming: frozenset[str] = frozenset()

    @property
    def missing(self) -> list[PlannedRoute]:
        """One route for each variable that has no value yet."""
        firsts = {route.variable: route for route in reversed(self.routes)}
        return [
            route for name, route in reversed(firsts.items()) if name != KEY and not self.secrets.get(name)
        ]


def plan(
    url: Url,
    access: RouteAccess,
    chatflows: Sequence[Chatflow],
    secrets: Mapping[str, str],
    environ: Mapping[str, str],
) -> Plan:
    """A route for each chatflow; those that need the same key of their own in Flowise share an upstream.

    Args:
        url: of Flowise.
        access: of every route.
        chatflows: those to serve.
        secrets: `GATEWAY_SECRET` and `FLOWISE_API_KEY`.
        environ: has keys of single chatflows, under the names that `key_variable` makes.
    """
    upstreams: dict[str, tuple[str, str]] = {"": (MAIN, KEY)}
    routes = []
    for flow, name in zip(chatflows, route_names(chatflows), strict=True):
        upstream, variable = upstreams.setdefault(flow.key_id, (f"{MAIN}-{name}", key_variable(name)))
        routes.append(PlannedRoute(name, flow, upstream, variable))
    own = {route.variable: environ.get(route.variable, "") for route in routes if route.variable != KEY}
    return Plan(url, access, tuple(routes), {**secrets, **own})


def config_text(plan: Plan) -> str:
    """The text of the configuration file."""
    variables = {route.upstream: route for route in sorted(plan.routes, key=lambda r: r.upstream != MAIN)}
    return _CONFIG.format(
        listen=LISTEN,
        secret=SECRET,
        upstreams="".join(_upstream(plan, route) for route in variables.values()),
        routes="".join(_route(plan, route) for route in plan.routes),
    )


def _upstream(plan: Plan, route: PlannedRoute) -> str:
    is_main = route.upstream == MAIN
    why = "" if is_main else f"    # {quote(route.flow.name)} needs an API key of its own in Flowise\n"
    return (
        f"  {route.upstream}:\n{why}"
        f'    servers: [{{url: "{plan.url}"}}]\n'
        f"    api_key: ${{{route.variable}:-}}\n"
    )


def _route(plan: Plan, route: PlannedRoute) -> str:
    auth = (
        "[anonymous]              # public"
        if plan.access.is_public
        else "[api_key]                # or session, jwt, upstream"
    )
    called = "" if route.flow.name == route.name else f"  # {quote(route.flow.name)}"
    text = (
        f"  - name: {scalar(route.name)}{called}\n"
        f"    chatflow: {scalar(route.flow.id)}\n"
        f"    upstream: {route.upstream}\n"
        f"    auth: {auth}\n"
    )
    if plan.access.origins:
        origins = ", ".join(f'"{origin}"' for origin in plan.access.origins)
        text += f"    cors: {{origins: [{origins}]}}\n"
    return text


def scalar(text: str) -> str:
    """The text plain where YAML reads it as text, else in quotes; names and ids need no escapes."""
    return text if plain_scalar(text).kind is ScalarKind.TEXT else f'"{text}"'


def environment_text(plan: Plan, *, is_hidden: bool = False) -> str:
    """The environment file. `is_hidden`: without the values, to be shown."""
    lines = [_ENV]
    missing = {route.variable: route for route in plan.missing}
    for name, value in plan.secrets.items():
        if name in missing:
            lines.append(f"# the API key that {quote(missing[name].flow.name)} needs in Flowise:\n")
        lines.append(f"{name}={'***' if is_hidden and value else shell_value(value)}\n")
    return "".join(lines)


def shell_value(text: str) -> str:
    """A value that a shell, Docker and systemd read alike wherever it needs no quotes; keys of Flowise never do."""
    if _SAFE_IN_SHELL.fullmatch(text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"
