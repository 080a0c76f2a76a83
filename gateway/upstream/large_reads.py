"""Shares out the iterations of the event loop among replies and clients that send faster than they can be handled.

A reply that comes in small reads, as a model writes, is not concerned. A body in chunks of one byte costs 1.5 µs for
each of its bytes, and one read may have 250 KB.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Protocol

SMALL = 4096  # bytes of a read that is handled at once in any case; at worst they cost a millisecond
SLICE = 16 * 1024  # bytes of one reply that are handled at once; at worst they cost 5 ms
AT_ONCE = 2 * SLICE  # bytes of large reads that are handled as they come, in one iteration
TURN = 0.005  # seconds of one iteration for slices that wait; the one that is being handled is finished
# Seconds of those for one reply, likewise. A costly slice uses them up alone. Cheap ones, as of the settings of a
# chatflow, do not have to wait for all costly ones of others after each 16 KiB.
SHARE = 0.0005


class Sliced(Protocol):
    """What has slices that wait."""

    def take_turn(self) -> None:
        """Handle the next slice, and more within `SHARE`; call `add` again if there are more."""


class LargeReads:
    """Those whose slices wait for an iteration, first come, first served."""

    __slots__ = ("_handled", "_next", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Sliced] = deque()
        self._next: asyncio.Handle | None = None
        self._handled = 0  # bytes, in this iteration

    def has_room(self, size: int) -> bool:
        """Whether this number of bytes of a read may be handled in this iteration; if so they count."""
        if self._waiting:
            return False
        self._schedule()
        self._handled += size
        return self._handled <= AT_ONCE

    def add(self, sliced: Sliced) -> None:
        """Give it a turn in a later iteration."""
        self._waiting.append(sliced)
        self._schedule()

    def _schedule(self) -> None:
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._next = None
        self._handled = 0
        until = monotonic() + TURN
        try:
            for _ in range(len(self._waiting)):
                self._waiting.popleft().take_turn()
                if monotonic() >= until:
                    break
        finally:  # a bug in the handling of one reply must not stop the others
            if self._waiting:
                self._schedule()


class Parser(Protocol):
    """The protocol of a connection."""

    @property
    def may_parse(self) -> bool:
        """Whether what is parsed is taken."""

    def data_received(self, data: bytes) -> None:
        """Parse; asks `beginning` about more than `SMALL` bytes."""

    def read_on(self) -> None:
        """Nothing waits to be parsed any more; whether what is parsed is taken may have changed."""


class SlicedReads:
    """What has come on one connection and is not parsed yet: while there is something, nothing more may be read.

    libuv would read up to 32 times 250 KB before it looks at another socket.
    """

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
        """The connection is gone."""
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
        if self._parser is None:
            return
        if not self._slices:
            self._parser.read_on()
        elif self._parser.may_parse:
            self.wait()
