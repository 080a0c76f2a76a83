"""A span in plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct, field

Value = str | bool | int | float | Sequence[str]
Attributes = dict[str, Value]
LONGEST_TEXT = 1024  # characters of an attribute that is no content


class SpanKindName(StrEnum):
    """The kinds that the gateway has."""

    SERVER = "SERVER"
    CLIENT = "CLIENT"
    INTERNAL = "INTERNAL"


class SpanEvent(Struct):
    """Something that happened in a span; `at` in seconds since 1970."""

    name: str
    at: float
    attributes: Attributes


class Span(Struct):
    """One span.

    Attributes:
        trace_id, span_id, parent_id: hexadecimal digits; no parent: the trace begins here.
        began, ended: seconds since 1970.
        links: trace and span ids.
        error: what went wrong; None: nothing.
    """

    name: str
    kind: SpanKindName
    trace_id: str
    span_id: str
    parent_id: str
    began: float
    ended: float
    attributes: Attributes = field(default_factory=dict)
    events: list[SpanEvent] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    error: str | None = None


def known(attributes: Mapping[str, Value | None]) -> Attributes:
    """Those that have a value."""
    return {name: value for name, value in attributes.items() if value not in (None, "", ())}
