"""The walk of a request: through the rooms in their order, to the handler, and out again, in one frame.

A room looks at the exchange and returns None (go on), a response (that is the answer), or raises. What it has
to undo or to say it leaves with the exchange (`on_response_done`, `on_complete`); so an open stream holds one frame, not one
for each room. This is the one place with `except Exception`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import hdrs, web

from gateway.errors import Draining, Failed, GatewayError
from gateway.exchange import Exchange
from gateway.flowise.endpoints import Purpose
from gateway.flowise.error_responses import error_response
from gateway.flowise.outcome import Outcome, of_error
from gateway.telemetry.logs import Logger

CLIENT_CLOSED = 499


def answer(exchange: Exchange, error: GatewayError) -> web.Response:
    """The response to a refused request; the exchange keeps the real status."""
    exchange.status = error.status
    outcome = of_error(error)
    if exchange.outcome is not Outcome.CLIENT_CLOSED or outcome is Outcome.FAILED:
        exchange.outcome = outcome  # also where a run has ended well, with an answer that is none
    exchange.error = exchange.error or f"{error.code}: {error.message}"
    is_run = exchange.match is not None and exchange.match.endpoint.purpose is Purpose.RUN
    accept = ", ".join(exchange.request.headers.getall(hdrs.ACCEPT, []))
    said = error_response(error, exchange.request_id, accept, is_run=is_run)
    exchange.bytes_out = len(said.body)
    return web.Response(
        status=said.status, headers={**said.headers, **exchange.response_headers}, body=said.body
    )


def cut(exchange: Exchange) -> web.Response:
    """The head is out, so its status stands; the response is for aiohttp, which finds nobody to write it to."""
    exchange.outcome = Outcome.FAILED
    exchange.error = exchange.error or "failed: after the head"
    if exchange.request.transport is not None:
        exchange.request.transport.abort()
    return web.Response(status=exchange.status)


def note_client_closed(exchange: Exchange) -> None:
    """The client left before its answer was complete."""
    exchange.outcome = exchange.outcome or Outcome.CLIENT_CLOSED
    exchange.error = exchange.error or "the client left"
    exchange.status = exchange.status or CLIENT_CLOSED


Handler = Callable[[Exchange], Awaitable[web.StreamResponse]]
Policy = Callable[[Exchange], Awaitable[web.StreamResponse | None]]


class Pipeline:
    """The rooms, and the handler at their end; counts who is on the way."""

    def __init__(self, rooms: Sequence[Policy], handler: Handler, logger: Logger) -> None:
        self._policies = tuple(rooms)
        self._handler = handler
        self._logger = logger
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._walking: dict[asyncio.Task[object], Exchange] = {}
        self._told: Draining | None = None
        self.is_closing = False

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        """Answer a request. Only a client that left makes this raise."""
        task = self._entered(exchange)
        try:
            response: web.StreamResponse | None = None
            for room in self._policies:
                if (response := await room(exchange)) is not None:
                    break
            if response is None:
                response = await self._handler(exchange)
        except GatewayError as error:
            response = answer(exchange, error)
        except (asyncio.CancelledError, ConnectionError) as error:
            told = exchange.told or self._told
            if told is None or exchange.request.transport is None or isinstance(error, ConnectionError):
                note_client_closed(exchange)
                raise
            task.uncancel()
            response = answer(exchange, told)
        except Exception as bug:  # noqa: BLE001 - the one place
            response = self._internal_error(exchange, bug)
        finally:
            self._left(exchange, task)
        if self.is_closing:
            response.force_close()
        return response

    def __len__(self) -> int:
        """How many are on the way."""
        return len(self._walking)

    async def empty(self) -> None:
        """Wait until nobody is on the way."""
        await self._nobody.wait()

    def end(self, error: Draining) -> None:
        """Answer this to everybody who is still on the way in; runs and streams are told by their own register."""
        self._told = error
        self.reject_pending(error, lambda _: True)

    def reject_pending(self, error: GatewayError, is_meant: Callable[[Exchange], bool]) -> None:
        """Answer this to those who are still on the way in, and are meant."""
        for task, exchange in self._walking.items():
            is_on_the_way_in = not exchange.is_run_open and exchange.timings.client_head is None
            if is_on_the_way_in and exchange.told is None and is_meant(exchange):
                exchange.told = error
                task.cancel()

    def _entered(self, exchange: Exchange) -> asyncio.Task[object]:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("a walk is always a task's")
        self._walking[task] = exchange
        self._nobody.clear()
        return task

    def _internal_error(self, exchange: Exchange, bug: Exception) -> web.StreamResponse:
        self._logger.error("bug", request_id=exchange.request_id, exc_info=bug)
        if exchange.timings.client_head is not None:
            return cut(exchange)
        return answer(exchange, Failed("Something went wrong in the gateway; its log has the details."))

    def _left(self, exchange: Exchange, task: asyncio.Task[object]) -> None:
        del self._walking[task]
        if not self._walking:
            self._nobody.set()
        exchange.leave()
