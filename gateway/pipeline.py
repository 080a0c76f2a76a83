"""Runs a request through the policies to its handler, and turns whatever they raise into a response.

A policy looks at the exchange and returns None (go on) or a response, or raises. What it must undo or report later it
registers with the exchange (`on_response_done`, `on_complete`), so an open stream holds one frame, not one for each
policy. This is the one place with `except Exception`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol

import msgspec
from aiohttp import hdrs

from gateway import web
from gateway.aio import Emptiness
from gateway.errors import Draining, Failed, GatewayError
from gateway.exchange import Exchange
from gateway.flowise.endpoints import Purpose
from gateway.flowise.error_responses import error_response
from gateway.flowise.outcome import Outcome, of_answer, of_error
from gateway.telemetry.logs import Logger

Handler = Callable[[Exchange], Awaitable[web.StreamResponse]]
# A plain function or a coroutine function: one that never awaits need not be a coroutine.
Policy = Callable[[Exchange], Awaitable[web.StreamResponse | None] | web.StreamResponse | None]


def json_response(content: object) -> web.Response:
    """A 200 of an endpoint that Flowise does not have; no cache keeps it."""
    return web.Response(
        body=msgspec.json.encode(content),
        headers={hdrs.CONTENT_TYPE: "application/json; charset=utf-8", hdrs.CACHE_CONTROL: "no-store"},
    )


class Stages(Protocol):
    """What a request passes: the policies in their order, then the handler."""

    @property
    def policies(self) -> Sequence[Policy]: ...

    @property
    def handler(self) -> Handler: ...


class Pipeline:
    """Runs requests through their stages; keeps those that are in it."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._in_progress: dict[asyncio.Task[object], Exchange] = {}
        self._idle = Emptiness(self._in_progress)
        self._draining: Draining | None = None
        self.is_closing = False

    async def __call__(self, exchange: Exchange, stages: Stages) -> web.StreamResponse:
        """Answer a request. Raises only if the client has left."""
        task = self._track(exchange)
        try:
            response: web.StreamResponse | None = None
            for policy in stages.policies:
                if (result := policy(exchange)) is None:
                    continue
                response = await result if hasattr(result, "__await__") else result
                if response is not None:
                    break
            if response is None:
                self._check_open()
                response = await stages.handler(exchange)
            _note_own(exchange, response)
        except GatewayError as error:
            response = _error_response(exchange, error)
            _forget_frames(error)
        except (asyncio.CancelledError, ConnectionError) as error:
            reason = exchange.terminated_by or self._draining
            if reason is None or exchange.request.transport is None or isinstance(error, ConnectionError):
                exchange.client_left()
                raise
            task.uncancel()
            response = _error_response(exchange, reason)
        except Exception as bug:  # noqa: BLE001 - the one place
            response = self._internal_error(exchange, bug)
        finally:
            self._untrack(exchange, task)
        if self.is_closing:
            response.force_close()
        return response

    def __len__(self) -> int:
        return len(self._in_progress)

    async def wait_idle(self) -> None:
        """Wait until no request is in the pipeline."""
        await self._idle.wait()

    def reject_all(self, error: Draining) -> None:
        """Answer this to every request that has no run or response head yet, and to those still to come."""
        self._draining = error
        self.reject_pending(error, lambda _: True)

    def reject_pending(self, error: GatewayError, is_meant: Callable[[Exchange], bool]) -> None:
        """Answer this to the requests that are meant and have no run or response head yet."""
        for task, exchange in self._in_progress.items():
            if _is_pending(exchange) and exchange.terminated_by is None and is_meant(exchange):
                exchange.terminated_by = error
                task.cancel()

    def pending(self) -> Iterator[Exchange]:
        """The requests that have no run or response head yet, in the order of their beginnings."""
        return filter(_is_pending, self._in_progress.values())

    def _check_open(self) -> None:
        """Raise if `reject_all` was called."""
        if self._draining is not None:
            raise self._draining

    def _track(self, exchange: Exchange) -> asyncio.Task[object]:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("aiohttp answers each request in a task")
        self._in_progress[task] = exchange
        return task

    def _untrack(self, exchange: Exchange, task: asyncio.Task[object]) -> None:
        del self._in_progress[task]
        if not self._in_progress:
            self._idle.check()
        exchange.response_done()

    def _internal_error(self, exchange: Exchange, bug: Exception) -> web.StreamResponse:
        self._logger.error("bug", request_id=exchange.request_id, exc_info=bug)
        if exchange.timings.client_head is not None:
            return _cut(exchange)
        return _error_response(
            exchange, Failed("Something went wrong in the gateway; its log has the details.")
        )


def _is_pending(exchange: Exchange) -> bool:
    return not exchange.is_run_open and exchange.timings.client_head is None


def _forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of an error that was answered.

    Their frames hold the refused body, in a cycle with the error: its memory would come back at some later collection.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


def _note_own(exchange: Exchange, response: web.StreamResponse) -> None:
    """Complete a response that was made here; `deliver` has noted one that was relayed."""
    if exchange.timings.client_head is not None:
        return
    response.headers.update(exchange.response_headers)
    body = response.body if isinstance(response, web.Response) else None
    size = len(body) if isinstance(body, bytes) else 0
    exchange.answered(response.status, of_answer(response.status, is_whole=True), size)


def _error_response(exchange: Exchange, error: GatewayError) -> web.Response:
    """The status on the wire may be another one (the widget gets most errors as a 200 stream)."""
    accept = exchange.request.headers.getall(hdrs.ACCEPT, [])
    is_run = exchange.match is not None and exchange.match.endpoint.purpose is Purpose.RUN
    sent = error_response(error, exchange.request_id, accept, is_run=is_run)
    outcome = of_error(error)
    if exchange.outcome is Outcome.CLIENT_CLOSED and outcome is not Outcome.FAILED:
        outcome = Outcome.CLIENT_CLOSED
    exchange.answered(error.status, outcome, len(sent.body), error.for_log)
    headers = {**sent.headers, **exchange.response_headers}
    return web.Response(status=sent.status, headers=headers, body=sent.body)


def _cut(exchange: Exchange) -> web.Response:
    """Break off a response whose head was sent; aiohttp cannot write the one that is returned."""
    exchange.answered(exchange.status, Outcome.FAILED, exchange.bytes_out, "failed: after the head")
    if exchange.request.transport is not None:
        exchange.request.transport.abort()
    return web.Response(status=exchange.status)
