"""What is answered to an error before the first byte; after it, there is nothing left to say.

A response that has begun is never answered a second time: its connection is cut, so that the client sees that
something is missing.
"""

from __future__ import annotations

from aiohttp import hdrs, web

from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.flowise.error_responses import refusal
from gateway.flowise.outcome import Outcome, of_error

CLIENT_CLOSED = 499


def answer(exchange: Exchange, error: GatewayError) -> web.Response:
    """The response to a refused request; the exchange keeps the real status."""
    exchange.status = error.status
    outcome = of_error(error)
    if exchange.outcome is not Outcome.CLIENT_CLOSED or outcome is Outcome.FAILED:
        exchange.outcome = outcome  # also where a run has ended well, with an answer that is none
    exchange.error = exchange.error or f"{error.code}: {error.message}"
    is_prediction = exchange.endpoint == "prediction"
    accept = ", ".join(exchange.request.headers.getall(hdrs.ACCEPT, []))
    said = refusal(error, exchange.request_id, accept, is_prediction=is_prediction)
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
