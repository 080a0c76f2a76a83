"""Answers `ping` by itself, as Flowise would: it tells that the gateway is there, not that Flowise is."""

from __future__ import annotations

from aiohttp import web

from gateway.exchange import Exchange
from gateway.flowise.outcome import Outcome


async def ping(exchange: Exchange) -> web.StreamResponse:
    """The handler."""
    exchange.status, exchange.outcome, exchange.bytes_out = 200, Outcome.OK, 4
    return web.Response(text="pong", headers=exchange.response_headers)
