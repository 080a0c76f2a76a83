"""The admin listener: metrics and the two probes. The probes need no token, everything else does if one is set."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

Exposition = Callable[
    [str], tuple[bytes, str]
]  # of what the scraper accepts: the answer and its content type
Readiness = Callable[[], str]  # empty when ready, else one word why not


def admin_app(exposition: Exposition, readiness: Readiness, token: str) -> web.Application:
    """The application of the admin listener. `token`: empty, or what `Authorization: Bearer` must carry."""
    expected = _bytes(f"Bearer {token}")

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        hindrance = readiness()
        return web.Response(status=503 if hindrance else 200, text=f"{hindrance or 'ok'}\n")

    async def scrape(request: web.Request) -> web.Response:
        accept = request.headers.get(hdrs.ACCEPT, "")
        # takes a millisecond per route; every value and every list of labels has a lock of its own
        body, content_type = await asyncio.to_thread(exposition, accept)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    @web.middleware
    async def authenticated(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if token and request.path not in ("/livez", "/readyz"):
            given = _bytes(request.headers.get(hdrs.AUTHORIZATION, ""))
            if not hmac.compare_digest(given, expected):
                raise web.HTTPUnauthorized(headers={hdrs.WWW_AUTHENTICATE: 'Bearer realm="admin"'})
        return await handler(request)

    app = web.Application(middlewares=[authenticated])
    app.add_routes(
        [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", scrape)],
    )
    return app


def _bytes(text: str) -> bytes:
    """Of a field as aiohttp decodes it: a byte that is no UTF-8 is half a surrogate pair."""
    return text.encode(errors="surrogateescape")
