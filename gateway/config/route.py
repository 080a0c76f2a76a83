"""The keys of a route; `defaults` takes the same keys, and `loader` merges them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from gateway.config.addresses import covers_origin
from gateway.config.section import Section, without_required
from gateway.config.tree import Scalar, ScalarKind
from gateway.config.types import (
    AuthMethod,
    ChatflowId,
    Duration,
    EventName,
    LegacyField,
    Name,
    OptionalDuration,
    OptionalWhole,
    OverrideName,
    PositiveDuration,
    RouteName,
    Size,
    Switch,
    Text,
    VariableText,
    WebOrigin,
    Whole,
    WholeOrZero,
    one_of,
)

_WHEN_BUSY = {"queue": "wait", "block": "wait", "reject": "refuse", "deny": "refuse", "fail": "refuse"}
_FOREIGN = {"pass": "ignore", "drop": "ignore", "allow": "ignore", "deny": "refuse", "reject": "refuse"}
_BY = {
    **dict.fromkeys(("ip", "client", "client_ip", "remote_addr", "remote_address"), "address"),
    **dict.fromkeys(("user", "key", "api_key", "consumer", "token", "credential", "session"), "caller"),
    **dict.fromkeys(("global", "all", "service", "chatflow", "flow", "total"), "route"),
}


def _one_count(schema: dict[str, Any]) -> None:
    required = (["requests", "per"], ["tokens", "per"], ["concurrent"])
    schema["oneOf"] = [{"required": keys} for keys in required]


class Limit(Section):
    """Requests or tokens per time, or concurrent runs."""

    model_config = ConfigDict(json_schema_extra=_one_count)

    name: Name = Field(examples=["burst"])
    """The name of the limit in headers and metrics."""
    requests: OptionalWhole = None
    """Requests `per` time."""
    tokens: OptionalWhole = None
    """Tokens `per` time."""
    concurrent: OptionalWhole = None
    """Concurrent runs."""
    per: OptionalDuration = None
    """The time in which the limit refills, evenly."""
    by: Annotated[Literal["caller", "address", "route"], one_of("caller", "address", "route", others=_BY)] = (
        "caller"
    )
    """What the limit counts for: each caller, each client address, or the route as a whole."""
    burst: OptionalWhole = None
    """Requests at once; the value of `requests` if left out."""
    reserve: WholeOrZero = 1000
    """Tokens charged at the start of each run and corrected at its end."""


class CorsSettings(Section):
    """Which web pages may call the route."""

    origins: tuple[WebOrigin, ...] = Field(examples=[["https://app.example.com"]])
    """Origins as browsers send them, https://*.example.com for one label, "null" for files, "*" for all."""
    credentials: Switch = False
    """Whether pages may send cookies and the like, as a front with a login of its own needs; not with "*" or "null"."""

    def allowed(self, origin: str) -> str | None:
        """The value of Access-Control-Allow-Origin; None if the origin is not listed."""
        if "*" in self.origins:
            return "*"
        return origin if any(covers_origin(listed, origin) for listed in self.origins) else None


class ConversationSettings(Section):
    """Conversations and their callers."""

    bind: Switch = True
    """Whether conversation ids belong to their caller; false: any caller that knows an id can use it."""
    when_busy: Annotated[Literal["wait", "refuse"], one_of("wait", "refuse", others=_WHEN_BUSY)] = "wait"
    """What happens to a request for a conversation whose run is not finished."""
    wait: PositiveDuration = 30.0
    """How long it waits."""


class OverrideSettings(Section):
    """What clients may write in `overrideConfig`."""

    allow: frozenset[OverrideName] = frozenset({"sessionId"})
    """Allowed names, vars.NAME, or vars.* for all vars."""


class BodySettings(Section):
    """Other fields in the body of a prediction."""

    allow: frozenset[LegacyField] = frozenset()
    """Legacy fields that are forwarded; others are dropped."""
    unknown: Annotated[Literal["pass", "drop", "refuse"], one_of("pass", "drop", "refuse")] = "pass"
    """What happens to fields that Flowise does not define."""


class EventSettings(Section):
    """Events of a stream."""

    withhold: frozenset[EventName] = frozenset()
    """Events that are withheld, in JSON answers too; custom:NAME for events that Flowise does not define."""


def null_as_none(written: object) -> object:
    """Only a written `null` means none: a key without a value may be half of one, and must not open a route."""
    return None if isinstance(written, Scalar) and written.kind is ScalarKind.NULL else written


class RouteKeys(Section):
    """The keys of a route that have a default."""

    limits: tuple[Limit, ...] = Field(default=(), examples=[[{"name": "burst", "requests": 60, "per": "1m"}]])
    """Limits of the route; a request must pass all of them."""
    cors: Annotated[CorsSettings | None, BeforeValidator(null_as_none)] = None
    """Which web pages may call; null or left out: no Origin is checked and no CORS header is sent."""
    foreign_credentials: Annotated[
        Literal["refuse", "ignore"] | None, one_of("refuse", "ignore", others=_FOREIGN)
    ] = None
    """What happens to a credential that is not of this gateway; left out: refuse, with auth: [anonymous] ignore."""
    conversations: ConversationSettings = ConversationSettings()
    override_config: OverrideSettings = OverrideSettings()
    vars: Mapping[Text, VariableText] = Field(default={}, repr=False)
    """Values set in overrideConfig.vars; {caller}, {user}, {route}, {claims.NAME} and {session.NAME} are replaced."""
    body: BodySettings = BodySettings()
    max_body: Size = 1024 * 1024
    """Largest request body; a route with uploads or upsert: server.max_body."""
    max_question: Whole = 20000
    """Most characters in a question, and in form, history and feedback texts."""
    max_word: Whole = 2000
    """Most characters without white space between them."""
    uploads: Switch = False
    """Whether clients may send files."""
    upsert: Switch = False
    """Whether clients may store documents in the chatflow's vector store; the widget needs uploads, too."""
    speech: Switch = False
    """Whether clients may have answers read aloud by the text-to-speech of the chatflow."""
    events: EventSettings = EventSettings()
    no_transform: Switch = False
    """Whether event streams carry Cache-Control: no-transform, so that no proxy in front compresses them."""
    heartbeat: Duration = 45.0
    """A comment is sent after this long without data; 0s: never."""
    on_disconnect: Annotated[Literal["abort", "ignore"], one_of("abort", "ignore")] = "abort"
    """What happens to the run of a client that disconnects."""
    chatbot_config: Annotated[Literal["public", "full", "off"], one_of("public", "full", "off")] = "public"
    """What public-chatbotConfig returns: no code or prompts, of the flow its form only; everything; or 404."""


class Defaults(RouteKeys):
    """Any key of a route, for all routes that do not have it."""

    name: RouteName | None = None
    chatflow: ChatflowId | None = None
    upstream: Name | None = None
    auth: frozenset[AuthMethod] | None = None


class Route(RouteKeys):
    """A chatflow that clients may call."""

    model_config = ConfigDict(json_schema_extra=without_required)

    name: RouteName = Field(examples=["support"])
    """Clients may use it wherever Flowise takes a chatflow id."""
    chatflow: ChatflowId = Field(examples=["2c5e8d0a-1111-4222-8333-444455556666"])
    """The id of the chatflow in Flowise."""
    upstream: Name = Field(examples=["main"])
    """The name of one of the upstreams."""
    auth: frozenset[AuthMethod] = Field(examples=[["anonymous"]], min_length=1)
    """Accepted credentials: any of api_key, session, jwt and upstream; [anonymous] for a public route."""

    @property
    def ignores_foreign(self) -> bool:
        """What `foreign_credentials` says, or, left out, whether the route takes no credentials at all."""
        if self.foreign_credentials is None:
            return self.auth == {"anonymous"}
        return self.foreign_credentials == "ignore"

    @property
    def takes_flowise_keys(self) -> bool:
        return "upstream" in self.auth
