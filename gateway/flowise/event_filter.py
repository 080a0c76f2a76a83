"""Removes whole events by name from a stream, and changes nothing else in it (pure).

The input is what `EventBoundaries` returns: whole events, or a large event in pieces. Nothing is buffered: the first
piece of an event decides about all of it. Comments and events without a name always pass.
"""

from __future__ import annotations

import re

from gateway.flowise.events import EVENT_NAMES, HEAD, event_name
from gateway.http.sse import boundaries, ends_with_boundary

_CUSTOM = "custom:"
_LINE_ENDS = b"\r\n"


class EventFilter:
    """Filters one stream. `names`: of the events to remove; `custom:<name>` is a name that Flowise does not define."""

    __slots__ = ("_ended_with_cr", "_is_withheld", "_last", "_may_hold_name", "_names")

    def __init__(self, names: frozenset[str]) -> None:
        custom = {name.removeprefix(_CUSTOM) for name in names if name.startswith(_CUSTOM)}
        self._names = frozenset(
            {name for name in names if not name.startswith(_CUSTOM)} | custom - EVENT_NAMES
        )
        # A name stands in an event as it is, or in JSON with escapes.
        spellings = (re.escape(name.encode()) for name in sorted(self._names))
        self._may_hold_name = re.compile(b"|".join([rb"\\u", *spellings])).search
        self._last = b""  # the last byte of an unfinished event
        self._is_withheld = False  # whether the latest event is removed
        self._ended_with_cr = False

    def feed(self, data: bytes) -> bytes:
        """Returns the bytes that pass."""
        if not data:
            return data
        if self._ended_with_cr and data.startswith(b"\n"):  # the rest of a split line end
            self._ended_with_cr = False
            return (b"" if self._is_withheld else b"\n") + self.feed(data[1:])
        if not self._last and ends_with_boundary(data) and self._may_hold_name(data) is None:
            self._is_withheld, self._ended_with_cr = False, data.endswith(b"\r")
            return data
        return self._filtered(data)

    @property
    def is_dropping(self) -> bool:
        """Whether a removed event is unfinished: then what passed before it ends at a boundary."""
        return self._is_withheld and bool(self._last)

    def _filtered(self, data: bytes) -> bytes:
        seen, start = self._last + data, len(self._last)
        passed = []
        for end in boundaries(seen):
            passed.append(self._filter_piece(seen[start:end]))
            start, self._last = end, b""
        if start < len(seen):
            tail = seen[start:]
            passed.append(self._filter_piece(tail))
            self._last = seen[-1:] if self._last or tail.lstrip(_LINE_ENDS) else b""
        self._ended_with_cr = not self._last and seen.endswith(b"\r")
        return b"".join(passed)

    def _filter_piece(self, piece: bytes) -> bytes:
        if self._last:
            return b"" if self._is_withheld else piece
        event = piece.lstrip(_LINE_ENDS)  # bare line ends before it are not part of it
        self._is_withheld = event_name(event[:HEAD]) in self._names
        return piece[: len(piece) - len(event)] if self._is_withheld else piece
