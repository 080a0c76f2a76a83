"""The pure functions on the hot path: ns per event for each way in which events may be cut."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from gateway.flowise.observer import StreamObserver
from gateway.http.sse import EventBoundaries

_ROUNDS = 7
_BATCH_S = 0.04
_EVENT = b'message:\ndata:{"event":"token","data":" and"}\n\n'
_LARGE = b'message:\ndata:{"event":"agentFlowExecutedData","data":"' + b"x" * 100_000 + b'"}\n\n'

Pieces = Sequence[bytes]
Feed = Callable[[bytes], object]

_CASES: tuple[tuple[str, Pieces, int], ...] = (
    ("one event in a read", [_EVENT], 1),
    ("CRLF event", [_EVENT.replace(b"\n", b"\r\n")], 1),
    ("three events in a read", [_EVENT * 3], 3),
    ("event in two halves", [_EVENT[:20], _EVENT[20:]], 1),
    ("100 KB event in two reads", [_LARGE[:60_000], _LARGE[60_000:]], 1),
)


def _observer() -> Feed:
    feed = StreamObserver().feed

    def observe(piece: bytes) -> None:
        feed(piece, 1.0)

    return observe


_SUBJECTS: dict[str, Callable[[], Feed]] = {
    "EventBoundaries.feed": lambda: EventBoundaries().feed,
    "StreamObserver.feed": _observer,
}


def measure() -> dict[str, dict[str, float]]:
    """Return ns per event by function and case."""
    return {
        name: {case: _ns_per_event(make(), pieces, events) for case, pieces, events in _CASES}
        for name, make in _SUBJECTS.items()
    }


def _ns_per_event(feed: Feed, pieces: Pieces, events: int) -> float:
    """The median of several batches, each long enough for the clock."""
    once = _timed(feed, pieces, 100) / 100
    times = max(1, int(_BATCH_S * 1e9 / once))
    return statistics.median(_timed(feed, pieces, times) / times for _ in range(_ROUNDS)) / events


def _timed(feed: Feed, pieces: Pieces, times: int) -> int:
    began = time.perf_counter_ns()
    for _ in range(times):
        for piece in pieces:
            feed(piece)
    return time.perf_counter_ns() - began


def render(found: dict[str, dict[str, float]]) -> str:
    lines = []
    for name, cases in found.items():
        lines.append(name)
        lines += [f"  {case:<28}{ns:>10.0f} ns/event" for case, ns in cases.items()]
    return "\n".join(lines)
