"""The endpoint of Flowise that the gateway answers by itself."""

from __future__ import annotations

from gateway import web
from gateway.exchange import Exchange


async def ping(_: Exchange) -> web.StreamResponse:
    return web.Response(text="pong")
