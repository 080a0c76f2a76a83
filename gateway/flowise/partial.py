"""What is kept of an event until its boundary comes (pure).

Its head, and all of it only if it is one of the name that is kept. Where it ends is found elsewhere.
"""

from __future__ import annotations

from gateway.flowise.events import HEAD, event_name

_LINE_ENDS = b"\r\n"
_LONGEST_END = 4  # CRLF CRLF


class PartialEvent:
    """One unfinished event: its first `HEAD` bytes, or its first `limit` bytes if `kept_name` is its name."""

    __slots__ = ("_held", "_is_kept", "_kept_name", "_limit", "_size", "last")

    def __init__(self, kept_name: str, limit: int) -> None:
        self._kept_name, self._limit = kept_name, limit
        self._held = bytearray()
        self._size = 0
        self._is_kept: bool | None = None
        self.last = b""  # the last few bytes that came, empty at a boundary

    def add(self, piece: bytes) -> None:
        """Take bytes of this event; bare line ends before it belong to no event."""
        self.last = (self.last + piece[-_LONGEST_END:])[-_LONGEST_END:]
        if not self._size:
            piece = piece.lstrip(_LINE_ENDS)
        self._size += len(piece)
        if self._is_kept is None and self._size > HEAD:
            head = bytes(self._held) + piece[: HEAD - len(self._held)]
            self._is_kept = event_name(head) == self._kept_name
        self._held += piece[: (self._limit if self._is_kept else HEAD) - len(self._held)]

    def take(self) -> tuple[bytes, int]:
        """Return what was kept of the finished event and its true size, both without its last line ends."""
        size = self._size - (len(self.last) - len(self.last.rstrip(_LINE_ENDS)) if self._size else 0)
        del self._held[size:]
        kept = bytes(self._held)
        self._held.clear()
        self._size, self._is_kept, self.last = 0, None, b""
        return kept, size
