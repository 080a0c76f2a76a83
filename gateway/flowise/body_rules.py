"""What a prediction's body may hold: the table of Flowise's fields, and the choices of a route (pure).

`prediction.py` applies these rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, Protocol

from msgspec import Struct


class JsonType(StrEnum):
    """The JSON type of a field that is not null, as error messages name it."""

    TEXT = "a string"
    OBJECT = "an object"
    ARRAY = "an array"
    ANY = "anything"


# What form builders and low-code tools send for a field that is left empty. Flowise takes it as absent.
BLANK = frozenset({b'""', b"false", b"0"})
BLANK_OBJECT = BLANK | {b"[]"}
LONGEST_BLANK = 5  # bytes


class Field(Struct, frozen=True):
    """One top-level field of a prediction.

    Attributes:
        json_type: what Flowise takes.
        blank: raw values that mean that the field is absent, beside null.
        legacy: removed unless the route's `body.allow` names it.
        counted: all text in it counts against `max_question` and `max_word`.
    """

    json_type: JsonType
    blank: frozenset[bytes] = frozenset()
    legacy: bool = False
    counted: bool = False


FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        "question": Field(JsonType.TEXT, counted=True),
        "form": Field(JsonType.OBJECT, BLANK_OBJECT, counted=True),  # of an agentflow that starts with a form
        "streaming": Field(JsonType.ANY),
        "chatId": Field(JsonType.TEXT),
        "overrideConfig": Field(JsonType.OBJECT, BLANK_OBJECT),
        "uploads": Field(JsonType.ARRAY, BLANK),
        "action": Field(JsonType.ANY),  # classic sequential agents: approve or reject
        "humanInput": Field(
            JsonType.OBJECT, BLANK, counted=True
        ),  # agentflows: resume a paused run, with feedback
        "leadEmail": Field(JsonType.ANY),
        "chatflowId": Field(JsonType.ANY),  # both SDKs send it, Flowise ignores it
        "socketIOClientId": Field(JsonType.ANY),  # before Flowise 2.1, ignored since
        "history": Field(JsonType.ARRAY, BLANK | {b"{}"}, legacy=True, counted=True),  # may be forged
        "evaluation": Field(JsonType.ANY, legacy=True),  # replaces the flow's analytics
        "evaluationRunId": Field(JsonType.ANY, legacy=True),
        "stopNodeId": Field(JsonType.ANY, legacy=True),
        "analytics": Field(JsonType.ANY, legacy=True),  # Flowise never filters overrideConfig.analytics
    }
)

LEGACY = frozenset(name for name, field in FIELDS.items() if field.legacy)
LEGACY_OVERRIDES = frozenset({"analytics"})


class AllowedOverrides(Protocol):
    """`override_config` of a route. `allow`: names of members, `vars.NAME`, `vars.*`."""

    @property
    def allow(self) -> frozenset[str]: ...


class OtherFields(Protocol):
    """`body` of a route. `allow`: names of `LEGACY`; `unknown`: what happens to fields outside `FIELDS`."""

    @property
    def allow(self) -> frozenset[str]: ...
    @property
    def unknown(self) -> Literal["pass", "drop", "refuse"]: ...


class IdBinding(Protocol):
    """`conversations` of a route. `bind`: ids are mapped, so a client may choose any text."""

    @property
    def bind(self) -> bool: ...


class BodyRules(Protocol):
    """The keys of a route that decide what a body may hold; `config.Route` has them.

    Lengths are in characters. `max_word` bounds the longest run without white space: the time of Flowise's tokenizer,
    which blocks Flowise's event loop, grows with its square. Members of `vars` are set by the gateway, so a client
    may not send them.
    """

    @property
    def max_question(self) -> int: ...
    @property
    def max_word(self) -> int: ...
    @property
    def uploads(self) -> bool: ...
    @property
    def vars(self) -> Mapping[str, str]: ...
    @property
    def override_config(self) -> AllowedOverrides: ...
    @property
    def body(self) -> OtherFields: ...
    @property
    def conversations(self) -> IdBinding: ...


def allows_override(rules: BodyRules, name: str) -> bool:
    """Returns whether a member of overrideConfig other than `vars` may pass."""
    return name in rules.override_config.allow or (name in LEGACY_OVERRIDES and name in rules.body.allow)


def allows_var(rules: BodyRules, name: str) -> bool:
    """Returns whether a member of overrideConfig.vars may pass."""
    return not rules.override_config.allow.isdisjoint({"vars.*", f"vars.{name}"})
