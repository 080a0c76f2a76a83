"""Answers for everything that is raised before the first byte; after it, there is nothing left to say.

The one place with `except Exception`. A response that has begun is never answered a second time: its
connection is cut, so that the client sees that something is missing.
"""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web

from gateway.errors import Failed, GatewayError
from gateway.exchange import Exchange, Handler, Room
from gateway.flowise.outcome import Outcome, of_error
from gateway.flowise.refusals import refusal
from gateway.telemetry.logs import Logger

CLIENT_CLOSED = 499


def failures(logger: Logger) -> Room:
    """The room."""

    async def room(exchange: Exchange, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(exchange)
        except GatewayError as error:
            return answer(exchange, error)
        except asyncio.CancelledError:
            _note_client_closed(exchange)
            raise
        except ConnectionError:
            _note_client_closed(exchange)
            raise
        except Exception:
            logger.exception("bug", request_id=exchange.request_id)
            exchange.outcome = Outcome.FAILED
            if exchange.timings.client_head is not None:
                return _cut(exchange)
            return answer(exchange, Failed("Something went wrong in the gateway; its log has the details."))

    return room


def answer(exchange: Exchange, error: GatewayError) -> web.Response:
    """The response to a refused request; the exchange keeps the real status."""
    exchange.status = error.status
    exchange.outcome = exchange.outcome or of_error(error)
    exchange.error = exchange.error or f"{error.code}: {error.message}"
    is_prediction = exchange.endpoint == "prediction"
    accept = ", ".join(exchange.request.headers.getall(hdrs.ACCEPT, []))
    said = refusal(error, exchange.request_id, accept, is_prediction=is_prediction)
    exchange.bytes_out = len(said.body)
    return web.Response(
        status=said.status, headers={**exchange.response_headers, **said.headers}, body=said.body
    )


def _cut(exchange: Exchange) -> web.Response:
    """The head is out, so its status stands; the response is for aiohttp, which finds nobody to write it to."""
    exchange.error = exchange.error or "failed: after the head"
    if exchange.request.transport is not None:
        exchange.request.transport.abort()
    return web.Response(status=exchange.status)


def _note_client_closed(exchange: Exchange) -> None:
    exchange.outcome = exchange.outcome or Outcome.CLIENT_CLOSED
    exchange.error = exchange.error or "the client left"
    exchange.status = exchange.status or CLIENT_CLOSED
