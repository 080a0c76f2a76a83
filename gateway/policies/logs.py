"""Says one line for each request, when it has ended and its run is accounted for."""

from __future__ import annotations

from aiohttp import web

from gateway.exchange import Exchange, Handler, Room
from gateway.flowise.outcome import Outcome
from gateway.telemetry.logs import Logger, request_line


def logs(logger: Logger, *, with_prompts: bool) -> Room:
    """The room."""

    def say(exchange: Exchange) -> None:
        line = request_line(exchange, with_prompt=with_prompts)
        (logger.error if exchange.outcome is Outcome.FAILED else logger.info)("request", **line)

    async def room(exchange: Exchange, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(exchange)
        finally:
            exchange.at_end(lambda: say(exchange))

    return room
