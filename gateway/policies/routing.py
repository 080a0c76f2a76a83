"""Refuses what `context` found to be no endpoint or no chatflow. It stands behind `cors`, so browsers can read why."""

from __future__ import annotations

from aiohttp import web

from gateway.exchange import Exchange, Handler


async def routing(exchange: Exchange, handler: Handler) -> web.StreamResponse:
    """The room."""
    if exchange.misrouted is not None:
        raise exchange.misrouted
    return await handler(exchange)
