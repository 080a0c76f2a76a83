"""The trace of one request by W3C Trace Context: what a caller's fields mean, and what goes on to Flowise (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

LONGEST_STATE = 512  # characters of a tracestate: what the specification (3.3.1.5) asks to pass on at least
RANDOM_BITS = 256  # of `begun`

# Version 00 has nothing behind its flags; a later one may have more, behind another dash (4.3).
PARENT = re.compile(
    r"(?:00(?=.{53}\Z)|(?!00|ff)[0-9a-f]{2}(?=.{53}(?:-|\Z)))"
    r"-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2}).*"
)  # trace id, span id, flags
_SAMPLED = 0x01
_STATE = re.compile(r"[ -~]*")
_RATIO_BITS = (
    64  # of the trace id decide, as in every SDK, so that services with one ratio keep the same traces
)


class TraceSampling(NamedTuple):
    """`below`: of the last 64 bits of a trace id; `continues`: a caller's trace; `propagates`: to Flowise."""

    below: int
    continues: bool = True
    propagates: bool = True

    @classmethod
    def of(cls, ratio: float, *, continues: bool, propagates: bool) -> TraceSampling:
        """`ratio`: from 0 to 1."""
        return cls(round(ratio * 2**_RATIO_BITS), continues, propagates)


class TraceContext(msgspec.Struct, gc=False):
    """Ids in lower-case hexadecimal digits.

    Attributes:
        trace_id: 32 digits.
        parent_id: of the caller's span, 16 digits; empty: the trace begins here.
        span_id: of this request.
        child_id: of its request to Flowise.
        is_sampled: what the caller or the ratio says, before it is known how the request ends.
        state: the caller's tracestate.
        propagates: whether Flowise gets a traceparent.
        linked: trace and span id of a caller that is not continued.
        marks: monotonic seconds, before the first policy and after each that the request has passed.
    """

    trace_id: str
    parent_id: str
    span_id: str
    child_id: str
    is_sampled: bool
    state: str = ""
    propagates: bool = True
    linked: tuple[str, str] | None = None
    marks: list[float] = msgspec.field(default_factory=list)

    def fields(self) -> Mapping[str, str]:
        """The header fields of the request to Flowise; an empty value is none."""
        if not self.propagates:
            return {}
        flags = "01" if self.is_sampled else "00"
        return {"traceparent": f"00-{self.trace_id}-{self.child_id}-{flags}", "tracestate": self.state}


def begun(
    sampling: TraceSampling, parent: re.Match[str] | None, states: Sequence[str], bits: int
) -> TraceContext:
    """The trace of a request.

    Args:
        sampling: as configured.
        parent: the caller's traceparent, as `PARENT` matches it; None: there is no valid one, or several.
        states: its tracestate fields.
        bits: `RANDOM_BITS` random ones.
    """
    digits = f"{bits:064x}"
    trace_id, span_id, child_id = digits[:32], digits[32:48], digits[48:]
    if parent is not None and sampling.continues:
        is_sampled = bool(int(parent[3], 16) & _SAMPLED)
        state = _state(states)
        return TraceContext(parent[1], parent[2], span_id, child_id, is_sampled, state, sampling.propagates)
    linked = None if parent is None else (parent[1], parent[2])
    is_sampled = int(trace_id[16:], 16) < sampling.below
    return TraceContext(trace_id, "", span_id, child_id, is_sampled, "", sampling.propagates, linked)


def _state(states: Sequence[str]) -> str:
    """Several fields are one list; one that is too long or not of printable ASCII is dropped, as it may be (3.3)."""
    if not states:
        return ""
    joined = ",".join(states)
    return joined if len(joined) <= LONGEST_STATE and _STATE.fullmatch(joined) else ""
