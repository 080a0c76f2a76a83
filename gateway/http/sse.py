"""Where one event of a stream ends and the next begins; what the events say is not looked at (pure).

An event ends with a blank line: any two neighbouring line-end bytes except CRLF, and a line feed that
follows a final carriage return belongs to them (WHATWG HTML 9.2.6). So one rule covers LF, CRLF, CR and
mixtures, however the stream is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LARGE_EVENT = 256 * 1024

_WHOLE = (b"\n\n", b"\r\n\r\n", b"\r\r")
_BOUNDARY = re.compile(rb"\n\n|[\r\n]\r\n?")
_CR = 13


class EventBoundaries:
    """Lets the bytes of one stream through as whole events.

    Bytes come out in their order and unchanged, each event as soon as its boundary came. Only bare line ends
    after an event may wait with what follows. An event above `LARGE_EVENT` bytes passes in pieces.
    """

    __slots__ = ("_held", "_last")

    def __init__(self) -> None:
        self._held = bytearray()
        self._last = b""  # the last byte that came, unless a boundary stands behind it

    def feed(self, data: bytes) -> bytes:
        """Take what came and return what may leave now; whole events are returned as they are, uncopied."""
        if not self._last and data.endswith(_WHOLE):
            return data
        return self._cut(data)

    def rest(self) -> bytes:
        """Give up the held tail: a stream that ends cleanly stays what it was."""
        held = bytes(self._held)
        self._held.clear()
        return held

    @property
    def held(self) -> int:
        """How many bytes wait for their boundary."""
        return len(self._held)

    @property
    def is_inside_event(self) -> bool:
        """Whether the last byte let through is not at a boundary: nothing of ours may be written now."""
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
    """Return the offset behind the last event boundary in these bytes, or 0."""
    at = data.rfind(b"\n\n")
    if _CR in data:
        at = max(at, data.rfind(b"\n\r"), data.rfind(b"\r\r"))
    end = at + 2
    if at < 0:
        return 0
    return end + 1 if data[end - 1] == _CR and data[end : end + 1] == b"\n" else end


def boundaries(data: bytes) -> Iterator[int]:
    """Yield the offset behind each event boundary in these bytes, in time linear in them."""
    if _CR in data:
        for found in _BOUNDARY.finditer(data):
            yield found.end()
        return
    at = data.find(b"\n\n")
    while at >= 0:
        yield at + 2
        at = data.find(b"\n\n", at + 2)
