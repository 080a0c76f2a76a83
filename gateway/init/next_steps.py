"""What `init` prints at its end: lines to copy into a shell and into a page (pure)."""

from __future__ import annotations

from gateway.config.problems import quote
from gateway.flowise.chatflows import FORM
from gateway.init.files import LISTEN, Plan, PlannedRoute

_WIDGET = """\
<script type="module">
  import Chatbot from "https://cdn.jsdelivr.net/npm/flowise-embed/dist/web.js"
  Chatbot.init({{ chatflowid: "{route}", apiHost: "http://{host}" }})
</script>"""
_SESSIONS = """\
A page must not hold an API key. It needs a session token in place of TOKEN, which your server gets with the key from
POST http://{listen}/gateway/v1/session-tokens; the route needs `auth: [api_key, session]`, and `cors.origins` with
the address of the page. For a page that everybody may use, run this command with --public."""


def next_steps(plan: Plan, serve: str, environment: str, key: str) -> list[str]:
    """Lines of text.

    Args:
        plan: what was written.
        serve: the shell lines that start the gateway.
        environment: the environment file, as it is named in a shell.
        key: an API key of the gateway, shown once; empty: the routes are public.
    """
    first = _first(plan)
    lines = ["", *(_missing(route, environment) for route in plan.missing)]
    lines += ["" for _ in plan.missing[:1]]
    lines += ["Start the gateway:", "", serve, ""]
    once = ' The key in this line, "first", is shown only this once.' if key else ""
    lines += [f"Ask it, in another terminal.{once}", "", _curl(first, key), ""]
    host = LISTEN if not key else f"{LISTEN}/t/TOKEN"
    lines += ["Embed it in a page:", "", _WIDGET.format(route=first.name, host=host)]
    if key:
        lines += ["", _SESSIONS.format(listen=LISTEN)]
    return lines


def _missing(route: PlannedRoute, environment: str) -> str:
    return (
        f"{quote(route.flow.name)} needs an API key of its own in Flowise: write it into {environment}, as"
        f" {route.variable}, before you start the gateway."
    )


def _first(plan: Plan) -> PlannedRoute:
    """The route to try: one that has its key for Flowise, is started by a chat message, and streams."""
    missing = {route.variable for route in plan.missing}

    def is_harder(route: PlannedRoute) -> tuple[bool, bool, bool]:
        return route.variable in missing, route.flow.trigger == FORM, route.flow.id not in plan.streaming

    return min(plan.routes, key=is_harder)


def _curl(route: PlannedRoute, key: str) -> str:
    fields = '"form": {}' if route.flow.trigger == FORM else '"question": "Hello!"'
    authorization = f" -H 'Authorization: Bearer {key}'" if key else ""
    return (
        f"curl -N http://{LISTEN}/api/v1/prediction/{route.name}{authorization}"
        f" -H 'Content-Type: application/json' -d '{{{fields}, \"streaming\": true}}'"
    )
