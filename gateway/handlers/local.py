"""The answer of an endpoint that Flowise does not have: JSON, and only for who asked."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gateway.exchange import Exchange
from gateway.flowise.outcome import Outcome


async def ping(exchange: Exchange) -> web.StreamResponse:
    """The handler."""
    exchange.status, exchange.outcome, exchange.bytes_out = 200, Outcome.OK, 4
    return web.Response(text="pong", headers=exchange.response_headers)


def local_json(exchange: Exchange, told: object) -> web.Response:
    """What is told, as a 200 that no cache keeps; written into the exchange as well."""
    body = msgspec.json.encode(told)
    exchange.status, exchange.outcome, exchange.bytes_out = 200, Outcome.OK, len(body)
    headers = {"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store"}
    return web.Response(body=body, headers={**headers, **exchange.response_headers})
