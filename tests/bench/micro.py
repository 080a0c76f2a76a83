"""The pure hot functions alone: nanoseconds per event for each way in which events may arrive."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Sequence

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


def _boundaries() -> Feed:
    feed: Feed = importlib.import_module("gateway.http.sse").EventBoundaries().feed
    return feed


def _observer() -> Feed:
    feed = importlib.import_module("gateway.flowise.observer").StreamObserver().feed

    def observe(piece: bytes) -> None:
        feed(piece, 1.0)

    return observe


_SUBJECTS: dict[str, Callable[[], Feed]] = {
    "gateway.http.sse.EventBoundaries.feed": _boundaries,
    "gateway.flowise.observer.StreamObserver.feed": _observer,
}


def measure() -> dict[str, dict[str, float]]:
    """Return ns per event by function and case; a function whose module does not exist has no cases."""
    found: dict[str, dict[str, float]] = {}
    for name, make in _SUBJECTS.items():
        try:
            make()
        except ModuleNotFoundError:
            found[name] = {}
        else:
            found[name] = {case: _ns_per_event(make(), pieces, events) for case, pieces, events in _CASES}
    return found


def _ns_per_event(feed: Feed, pieces: Pieces, events: int) -> float:
    """Time one case: the median of several batches, each long enough for the clock."""
    once = _timed(feed, pieces, 100) / 100
    times = max(1, int(_BATCH_S * 1e9 / once))
    return statistics.median(_timed(feed, pieces, times) / times for _ in range(_ROUNDS)) / events


def _timed(feed: Feed, pieces: Pieces, times: int) -> int:
    began = time.perf_counter_ns()
    for _ in range(times):
        for piece in pieces:
            feed(piece)
    return time.perf_counter_ns() - began


def tell(found: dict[str, dict[str, float]]) -> str:
    """Lay out the figures."""
    lines = []
    for name, cases in found.items():
        lines.append(name if cases else f"{name}: skipped, its module does not exist")
        lines += [f"  {case:<28}{ns:>10.0f} ns/event" for case, ns in cases.items()]
    return "\n".join(lines)
