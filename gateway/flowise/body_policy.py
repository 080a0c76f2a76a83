"""What a route lets through in a prediction: the table of Flowise's fields and the route's own choices.

States the rules; `prediction.py` applies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal


class Kind(StrEnum):
    """The JSON type that a field must have where it is not null."""

    TEXT = "a string"
    OBJECT = "an object"
    ARRAY = "an array"
    ANY = "anything"


@dataclass(frozen=True, slots=True)
class Field:
    """What the gateway knows of one top-level field (PROTOCOL.md 1.2).

    Attributes:
        kind: the type that it must have.
        legacy: taken out unless the route's `body.allow` names it.
        counted: all text in it counts against `max_question` and `max_word`.
    """

    kind: Kind
    legacy: bool = False
    counted: bool = False


FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        "question": Field(Kind.TEXT, counted=True),
        "form": Field(Kind.OBJECT, counted=True),  # of an agentflow that starts with a form
        "streaming": Field(Kind.ANY),
        "chatId": Field(Kind.TEXT),
        "overrideConfig": Field(Kind.OBJECT),
        "uploads": Field(Kind.ARRAY),
        "action": Field(Kind.ANY),  # classic sequential agents: approve or reject
        "humanInput": Field(Kind.OBJECT, counted=True),  # agentflows: resume a waiting run, with feedback
        "leadEmail": Field(Kind.ANY),
        "chatflowId": Field(Kind.ANY),  # both SDKs send it, Flowise ignores it
        "socketIOClientId": Field(Kind.ANY),  # before Flowise 2.1, ignored since
        "history": Field(Kind.ARRAY, legacy=True, counted=True),  # may be forged
        "evaluation": Field(Kind.ANY, legacy=True),  # replaces the flow's analytics
        "evaluationRunId": Field(Kind.ANY, legacy=True),
        "stopNodeId": Field(Kind.ANY, legacy=True),
        "analytics": Field(
            Kind.ANY, legacy=True
        ),  # also as overrideConfig.analytics, which Flowise never filters
    }
)

LEGACY = frozenset(name for name, field in FIELDS.items() if field.legacy)
LEGACY_OVERRIDES = frozenset({"analytics"})


@dataclass(frozen=True, slots=True)
class BodyPolicy:
    """The choices of one route.

    Attributes:
        max_question: characters of all text in one field (question, form, history, humanInput).
        max_word: characters of the longest run without white space there; Flowise's tokenizer takes time with
            its square on its one event loop (PROTOCOL.md 7.9).
        allowed_overrides: members of overrideConfig: names, `vars.NAME`, `vars.*`.
        legacy_allowed: names of `LEGACY` that pass.
        unknown: what happens to top-level fields that are not in `FIELDS`.
        uploads: files and the `uploads` array may come.
        bound: ids will be mapped, so they may be any text (`ids.bound_id`).
        own_vars: members of overrideConfig.vars that the gateway sets; a client may not.
    """

    max_question: int
    max_word: int
    allowed_overrides: frozenset[str] = frozenset({"sessionId"})
    legacy_allowed: frozenset[str] = frozenset()
    unknown: Literal["pass", "drop", "refuse"] = "pass"
    uploads: bool = False
    bound: bool = False
    own_vars: frozenset[str] = frozenset()

    def allows_override(self, name: str) -> bool:
        """Whether a member of overrideConfig other than `vars` may pass."""
        return name in self.allowed_overrides or (name in LEGACY_OVERRIDES and name in self.legacy_allowed)

    def allows_var(self, name: str) -> bool:
        """Whether a member of overrideConfig.vars may pass."""
        return not self.allowed_overrides.isdisjoint({"vars.*", f"vars.{name}"})
