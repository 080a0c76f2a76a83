"""Counts the bytes that the gateway reads from its upstream, so that a test can make each write a read of its own."""

from __future__ import annotations

import asyncio

from gateway.upstream.connection import Connection
from gateway.upstream.large_reads import SLICE


class Reads:
    """Counts what the gateway has read from its upstream, so that the upstream can wait for it."""

    def __init__(self) -> None:
        self.total = 0
        self._wanted = 0
        self._more = asyncio.Event()

    def note(self, size: int) -> None:
        self.total += size
        if self.total >= self._wanted:
            self._more.set()

    async def reach(self, total: int) -> None:
        """Wait until `total` bytes have been read."""
        self._wanted = total
        while self.total < total:
            self._more.clear()
            await self._more.wait()


def watched_reads(monkeypatch) -> Reads:
    """Count on all connections from now on."""
    seen = Reads()
    receive = Connection.data_received

    def data_received(self, data):
        receive(self, data)
        seen.note(min(len(data), SLICE))  # the other slices of a large read come in calls of their own

    monkeypatch.setattr(Connection, "data_received", data_received)
    return seen
