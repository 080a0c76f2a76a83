"""Counts each request once, when it has ended and its run is accounted for."""

from __future__ import annotations

from time import monotonic

from aiohttp import web

from gateway.exchange import Exchange, Handler, Room
from gateway.telemetry.metrics import Metrics


def metrics(book: Metrics) -> Room:
    """The room."""

    async def room(exchange: Exchange, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(exchange)
        finally:
            exchange.timings.ended = monotonic()
            exchange.at_end(lambda: book.record(exchange))

    return room
