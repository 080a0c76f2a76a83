"""Shares out the iterations of the event loop among replies that come faster than they can be handled.

A reply that comes in small reads, as a model writes, is not concerned.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Protocol

SLICE = 16 * 1024  # bytes of one reply that are handled at once; at worst they cost 5 ms
AT_ONCE = 2 * SLICE  # bytes of large reads that are handled as they come, in one iteration
TURN = 0.005  # seconds of one iteration for slices that wait; the one that is being handled is finished
# Seconds of those for one reply, likewise. A costly slice uses them up alone. Cheap ones, as of the settings of a
# chatflow, do not have to wait for all costly ones of others after each 16 KiB.
SHARE = 0.0005


class SlicedReply(Protocol):
    """A reply with slices that wait."""

    def take_turn(self) -> None:
        """Handle the next slice, and more within `SHARE`; call `add` again if there are more."""


class LargeReads:
    """The replies whose slices wait for an iteration, first come, first served."""

    __slots__ = ("_handled", "_next", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[SlicedReply] = deque()
        self._next: asyncio.Handle | None = None
        self._handled = 0  # bytes, in this iteration

    def has_room(self, size: int) -> bool:
        """Whether this number of bytes of a read may be handled in this iteration; if so they count."""
        if self._waiting:
            return False
        self._schedule()
        self._handled += size
        return self._handled <= AT_ONCE

    def add(self, reply: SlicedReply) -> None:
        """Give the reply a turn in a later iteration."""
        self._waiting.append(reply)
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
