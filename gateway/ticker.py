"""The one coarse timer of a process: deadlines, heartbeats and idle connections are looked at from here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic

INTERVAL = 0.25  # seconds; so a deadline is late by at most that


class Ticker:
    """Calls each of the watchers with the monotonic time, four times a second, from `start` to `stop`."""

    def __init__(self, watchers: Sequence[Callable[[float], None]]) -> None:
        self._watchers = tuple(watchers)
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin."""
        self._next = asyncio.get_running_loop().call_later(INTERVAL, self._tick)

    def stop(self) -> None:
        """End."""
        if self._next is not None:
            self._next.cancel()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._next = loop.call_later(INTERVAL, self._tick)
        now = monotonic()
        for watch in self._watchers:
            loop.call_soon(watch, now)  # each by itself: what one raises hides no other
