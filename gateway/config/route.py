"""The keys of a route, all of which may stand in `defaults` too; merging those is done in `effective`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from gateway.config.section import Section, without_required
from gateway.config.tree import Kind, Scalar
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


def _kinds_of_limits(schema: dict[str, Any]) -> None:
    required = (["requests", "per"], ["tokens", "per"], ["concurrent"])
    schema["oneOf"] = [{"required": keys} for keys in required]


class Limit(Section):
    """How much: requests or tokens in a time, or runs at once."""

    model_config = ConfigDict(json_schema_extra=_kinds_of_limits)

    name: Name = Field(examples=["burst"])
    """Names the limit in headers and metrics."""
    requests: OptionalWhole = None
    """So many requests `per` time."""
    tokens: OptionalWhole = None
    """So many tokens `per` time."""
    concurrent: OptionalWhole = None
    """So many runs at once."""
    per: OptionalDuration = None
    """The time in which the whole is refilled, evenly."""
    by: Annotated[Literal["caller", "address", "route"], one_of("caller", "address", "route")] = "caller"
    """Who shares the limit."""
    burst: OptionalWhole = None
    """So many requests at once; `requests` if not given."""
    reserve: WholeOrZero = 1000
    """Tokens taken at the start of each run and settled at its end."""


class CorsSettings(Section):
    """Which web pages may call."""

    origins: tuple[WebOrigin, ...] = Field(examples=[["https://app.example.com"]])
    """Origins as browsers send them, or "*" for all. An Origin that is not listed is refused."""

    def allowed(self, origin: str) -> str | None:
        """The value of Access-Control-Allow-Origin for this Origin; None if it may not call."""
        if "*" in self.origins:
            return "*"
        return origin if origin in self.origins else None


class ConversationSettings(Section):
    """Whose conversations are whose, and what happens when one is busy."""

    bind: Switch = True
    """Whether conversation ids belong to their caller, so that nobody else reaches them."""
    when_busy: Annotated[Literal["wait", "refuse"], one_of("wait", "refuse")] = "wait"
    """What the next request of a busy conversation does."""
    wait: PositiveDuration = 30.0
    """How long it waits for its turn."""


class OverrideSettings(Section):
    """What a client may put into `overrideConfig`."""

    allow: frozenset[OverrideName] = frozenset({"sessionId"})
    """Names, vars.NAME, or vars.* for all vars."""


class BodySettings(Section):
    """Other fields of a prediction's body."""

    allow: frozenset[LegacyField] = frozenset()
    """Legacy fields that pass: history, evaluation, evaluationRunId, stopNodeId, analytics."""
    unknown: Annotated[Literal["pass", "drop", "refuse"], one_of("pass", "drop", "refuse")] = "pass"
    """What happens to fields that Flowise does not define."""


class EventSettings(Section):
    """Which events of a stream do not reach the client."""

    withhold: frozenset[EventName] = frozenset()
    """Event names; custom:NAME for those that Flowise does not define, read as NAME."""


def _null_as_none(written: object) -> object:
    """Only a written `null` means none: a key that lost its value must not open the route to every page."""
    return None if isinstance(written, Scalar) and written.kind is Kind.NULL else written


class RouteKeys(Section):
    """The keys of a route that have a default."""

    limits: tuple[Limit, ...] = ()
    """How much; a request must pass all of them."""
    cors: Annotated[CorsSettings | None, BeforeValidator(_null_as_none)] = None
    """Which web pages may call; null or left out: no Origin is checked, no CORS header sent."""
    conversations: ConversationSettings = ConversationSettings()
    override_config: OverrideSettings = OverrideSettings()
    vars: Mapping[Text, VariableText] = Field(default={}, repr=False)
    """Set into overrideConfig.vars by the gateway; {caller}, {user} and {route} are replaced."""
    body: BodySettings = BodySettings()
    max_body: Size = 1024 * 1024
    """Largest body; a route with uploads that has none of its own takes server.max_body."""
    max_question: Whole = 20000
    """Characters of the question; covers form, history and feedback texts too."""
    max_word: Whole = 2000
    """Characters of the longest run without white space."""
    uploads: Switch = False
    """Whether files may be sent."""
    events: EventSettings = EventSettings()
    heartbeat: Duration = 45.0
    """A comment when nothing was sent for so long; 0s: none."""
    on_disconnect: Annotated[Literal["abort", "ignore"], one_of("abort", "ignore")] = "abort"
    """What happens to the run of a client that left."""
    chatbot_config: Annotated[Literal["public", "full", "off"], one_of("public", "full", "off")] = "public"
    """What public-chatbotConfig tells: without flowData, everything, or nothing."""


class Defaults(RouteKeys):
    """Any key of a route, for all routes that do not have it themselves."""

    name: RouteName | None = None
    chatflow: ChatflowId | None = None
    upstream: Name | None = None
    auth: frozenset[AuthMethod] | None = None
    """Who may call."""


class Route(RouteKeys):
    """One chatflow, with `defaults` merged in."""

    model_config = ConfigDict(json_schema_extra=without_required)

    name: RouteName = Field(examples=["support"])
    """Works wherever Flowise takes an id."""
    chatflow: ChatflowId = Field(examples=["2c5e8d0a-1111-4222-8333-444455556666"])
    """The flow's id in Flowise, in lower case."""
    upstream: Name = Field(examples=["main"])
    """One of the upstreams."""
    auth: frozenset[AuthMethod] = Field(examples=[["anonymous"]], min_length=1)
    """Who may call: any of api_key, session, jwt; [anonymous] for public."""
