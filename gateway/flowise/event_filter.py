"""Drops whole events by name from a stream and changes nothing else in it (pure).

Given what `EventBoundaries` let out: whole events, or an event above its limit in pieces. Nothing is
buffered: the first piece of an event decides about all of it. Comments and nameless events always pass.
"""

from __future__ import annotations

from gateway.flowise.events import EVENT_NAMES, HEAD, event_name
from gateway.http.sse import boundaries

_CUSTOM = "custom:"
_LINE_ENDS = b"\r\n"


class EventFilter:
    """What passes of one stream; `custom:<name>` in `names` is a name that Flowise does not define."""

    __slots__ = ("_ended_with_cr", "_is_withheld", "_last", "_names")

    def __init__(self, names: frozenset[str]) -> None:
        custom = {name.removeprefix(_CUSTOM) for name in names if name.startswith(_CUSTOM)}
        self._names = frozenset(
            {name for name in names if not name.startswith(_CUSTOM)} | custom - EVENT_NAMES
        )
        self._last = b""  # the last byte of an event that came in part
        self._is_withheld = False  # the verdict on the event that came last
        self._ended_with_cr = False

    def feed(self, data: bytes) -> bytes:
        """Return what passes of these bytes, byte for byte."""
        if not data:
            return data
        if self._ended_with_cr and data.startswith(b"\n"):  # the second half of its last line end
            self._ended_with_cr = False
            return (b"" if self._is_withheld else b"\n") + self.feed(data[1:])
        return self._sifted(data)

    @property
    def is_dropping(self) -> bool:
        """Whether an event came in part and is withheld: what passed before it ends at a boundary."""
        return self._is_withheld and bool(self._last)

    def _sifted(self, data: bytes) -> bytes:
        seen, start = self._last + data, len(self._last)
        passed = []
        for end in boundaries(seen):
            passed.append(self._sift(seen[start:end]))
            start, self._last = end, b""
        if start < len(seen):
            tail = seen[start:]
            passed.append(self._sift(tail))
            self._last = seen[-1:] if self._last or tail.lstrip(_LINE_ENDS) else b""
        self._ended_with_cr = not self._last and seen.endswith(b"\r")
        return b"".join(passed)

    def _sift(self, piece: bytes) -> bytes:
        if self._last:
            return b"" if self._is_withheld else piece
        event = piece.lstrip(_LINE_ENDS)  # bare line ends belong to no event
        self._is_withheld = event_name(event[:HEAD]) in self._names
        return piece[: len(piece) - len(event)] if self._is_withheld else piece
