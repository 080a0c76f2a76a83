"""Finds the boundaries between the events of a stream; does not read the events (pure).

An event ends with a blank line: two neighbouring line-end bytes that are not CRLF. A line feed after a final carriage
return belongs to the boundary (WHATWG HTML 9.2.6). This one rule covers LF, CRLF, CR and mixtures, in any cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LARGE_EVENT = 256 * 1024  # bytes

_WHOLE = (b"\n\n", b"\r\n\r\n", b"\r\r")
_BOUNDARY = re.compile(rb"\n\n|[\r\n]\r\n?")
_CR = 13


class EventBoundaries:
    """Passes the bytes of one stream on as whole events, in order and unchanged.

    Each event leaves as soon as its boundary has arrived; bare line ends after it may wait for the next event. An event
    above `LARGE_EVENT` bytes passes in pieces.

    Whole events may pass by this object while it is at a boundary.
    """

    __slots__ = ("_held", "_last")

    def __init__(self) -> None:
        self._held = bytearray()
        self._last = b""  # the last byte received; empty after a boundary

    def feed(self, data: bytes) -> bytes:
        """Takes received bytes and returns those that may leave now; whole events are not copied."""
        if not self._last and data.endswith(_WHOLE):
            return data
        return self._cut(data)

    def rest(self) -> bytes:
        """Returns and forgets the held tail, for a stream that ends cleanly."""
        held = bytes(self._held)
        self._held.clear()
        return held

    @property
    def held(self) -> int:
        """The number of bytes that wait for their boundary."""
        return len(self._held)

    @property
    def is_inside_event(self) -> bool:
        """Whether the last byte passed on is not at a boundary, so that nothing else may be written now."""
        return bool(self._last) and not self._held

    def _cut(self, data: bytes) -> bytes:
        end = last_boundary(self._last + data) - len(self._last)
        if end <= 0:
            return self._wait(data)
        ready, tail = data[:end], data[end:]
        if self._held:
            self._held += ready
            ready = self.rest()
        self._last = b""
        return ready + self._wait(tail) if tail else ready

    def _wait(self, tail: bytes) -> bytes:
        is_passing = self.is_inside_event
        self._last = tail[-1:] or self._last
        if is_passing or (not self._held and len(tail) > LARGE_EVENT):
            return tail
        self._held += tail
        return self.rest() if len(self._held) > LARGE_EVENT else b""


def last_boundary(data: bytes) -> int:
    """Returns the offset after the last event boundary in these bytes, or 0."""
    at = data.rfind(b"\n\n")
    if _CR in data:
        at = max(at, data.rfind(b"\n\r"), data.rfind(b"\r\r"))
    end = at + 2
    if at < 0:
        return 0
    return end + 1 if data[end - 1] == _CR and data[end : end + 1] == b"\n" else end


def ends_with_boundary(data: bytes) -> bool:
    """Returns whether these bytes, which begin at a boundary, hold whole events only."""
    return data.endswith(_WHOLE)


def boundaries(data: bytes) -> Iterator[int]:
    """Yields the offset after each event boundary in these bytes, in linear time."""
    if _CR in data:
        for found in _BOUNDARY.finditer(data):
            yield found.end()
        return
    at = data.find(b"\n\n")
    while at >= 0:
        yield at + 2
        at = data.find(b"\n\n", at + 2)
