"""Counts each request once, when it has ended and its run is accounted for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.exchange import Exchange
from gateway.telemetry.metrics import Metrics


def metrics(book: Metrics) -> Callable[[Exchange], Awaitable[None]]:
    """The room."""

    async def room(exchange: Exchange) -> None:
        exchange.on_complete(book.record)

    return room
