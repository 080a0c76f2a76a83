"""Shares out the iterations of the event loop among clients that send much, together with Flowise's replies.

A body in chunks of one byte costs 1.5 µs for each of its bytes, and one read may have 250 KB.
"""

from __future__ import annotations

from time import monotonic
from typing import Protocol

from gateway.upstream.large_reads import SHARE, SLICE, LargeReads

SMALL = 4096  # bytes of a read that is parsed at once


class Parser(Protocol):
    """The protocol of a connection."""

    @property
    def may_parse(self) -> bool:
        """Whether the buffers take what is parsed."""

    def data_received(self, data: bytes) -> None:
        """Parse; asks `beginning` about more than `SMALL` bytes."""

    def read_on(self) -> None:
        """Nothing waits to be parsed any more."""


class SlicedReads:
    """What one client has sent and what is not parsed yet: while there is something, nothing more may be read."""

    __slots__ = ("_is_parsing", "_is_waiting", "_parser", "_reads", "_slices")

    def __init__(self, reads: LargeReads, parser: Parser) -> None:
        self._reads = reads
        self._parser: Parser | None = parser
        self._slices: list[bytes] = []  # the next one is the last
        self._is_waiting = self._is_parsing = False

    def __bool__(self) -> bool:
        """Whether something waits to be parsed."""
        return bool(self._slices)

    def beginning(self, data: bytes) -> bytes:
        """What may be parsed now of a read; the rest waits for its turn."""
        if self._is_parsing:
            return data
        now = SLICE if self._reads.has_room(min(len(data), SLICE)) else 0
        if len(data) > now:
            self._slices = [data[start : start + SLICE] for start in reversed(range(now, len(data), SLICE))]
            self.wait()
        return data[:now]

    def wait(self) -> None:
        """Ask for a turn."""
        if not self._is_waiting:
            self._is_waiting = True
            self._reads.add(self)

    def close(self) -> None:
        """The client is gone."""
        self._parser = None
        self._slices.clear()

    def take_turn(self) -> None:
        """Parse the next slice, and more if they are cheap."""
        self._is_waiting = False
        until = monotonic() + SHARE
        while self._slices and self._parser is not None and self._parser.may_parse:
            self._is_parsing = True
            try:
                self._parser.data_received(self._slices.pop())
            finally:
                self._is_parsing = False
            if monotonic() >= until:
                break
        if self._parser is None or not self._parser.may_parse:
            return
        if self._slices:
            self.wait()
        else:
            self._parser.read_on()
