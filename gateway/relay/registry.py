"""All calls of this process that are open inside Flowise: one coarse timer looks after them, the drain ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.errors import GatewayError
from gateway.exchange import Exchange


class InFlightCall(Protocol):
    """What the register needs of a run or a transfer."""

    exchange: Exchange

    @property
    def has_client(self) -> bool:
        """Whether somebody still waits for the answer."""

    def tick(self, now: float) -> None:
        """Time passes. `now`: monotonic seconds."""

    def abort(self) -> None:
        """Ask Flowise to stop."""

    def end_now(self, error: GatewayError) -> None:
        """Tell the client, abort, close."""

    def turn_away(self, error: GatewayError) -> None:
        """Tell the client, abort, and account for what still comes; once."""


class InFlight:
    """The register."""

    def __init__(self) -> None:
        self._open: set[InFlightCall] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.is_draining = False

    def __len__(self) -> int:
        return len(self._open)

    def add(self, call: InFlightCall) -> None:
        """It begins."""
        self._open.add(call)
        self._empty.clear()

    def discard(self, call: InFlightCall) -> None:
        """It is over."""
        self._open.discard(call)
        if not self._open:
            self._empty.set()

    def tick(self, now: float) -> None:
        """Let every call look at its clocks."""
        for call in list(self._open):
            call.tick(now)

    def begin_drain(self) -> None:
        """From now on, what nobody waits for is aborted."""
        self.is_draining = True
        for call in list(self._open):
            if not call.has_client:
                call.abort()

    async def empty(self) -> None:
        """Wait until nothing is open."""
        await self._empty.wait()

    def end_all(self, error: GatewayError) -> None:
        """End whatever is open."""
        for call in list(self._open):
            call.end_now(error)

    def turn_away(self, error: GatewayError, is_meant: Callable[[Exchange], bool]) -> None:
        """Tell the clients that are meant, and abort what they asked."""
        for call in list(self._open):
            if call.exchange.told is None and is_meant(call.exchange):
                call.exchange.told = error
                call.turn_away(error)
