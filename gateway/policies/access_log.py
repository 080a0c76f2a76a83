"""Says one line for each request, when it has ended and its run is accounted for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.exchange import Exchange
from gateway.flowise.outcome import Outcome
from gateway.telemetry.logs import Logger, request_line


def logs(logger: Logger, *, with_prompts: bool) -> Callable[[Exchange], Awaitable[None]]:
    """The room."""

    def say(exchange: Exchange) -> None:
        line = request_line(exchange, with_prompt=with_prompts)
        (logger.error if exchange.outcome is Outcome.FAILED else logger.info)("request", **line)

    async def room(exchange: Exchange) -> None:
        exchange.on_complete(say)

    return room
