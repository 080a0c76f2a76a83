"""Who is calling. So far every route is public: a caller without credentials is `anonymous`.

A credential that is presented must be valid, on public routes too, and none can be valid yet.
"""

from __future__ import annotations

from aiohttp import hdrs

from gateway.errors import Unauthenticated
from gateway.exchange import Exchange

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="flowise-gateway"'}


async def auth(exchange: Exchange) -> None:
    """The room."""
    headers = exchange.request.headers
    if hdrs.AUTHORIZATION in headers or "X-API-Key" in headers:
        raise Unauthenticated(
            "This credential is not valid here: the gateway has no keys. Send the request without one.",
            headers=_CHALLENGE,
        )
    exchange.auth = "anonymous"
