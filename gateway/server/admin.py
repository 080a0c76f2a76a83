"""The admin listener as a port that opens and closes, in whichever process owns it."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from gateway.config import Address, AdminSettings
from gateway.server.listener import library_logger
from gateway.server.sockets import open_site
from gateway.telemetry.logs import Logger

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


FORCED = 1.0  # seconds that aiohttp waits, twice, for a scrape that is under way


class AdminListener:
    """From `open` to `close`."""

    def __init__(
        self, settings: AdminSettings, exposition: Exposition, readiness: Readiness, logger: Logger
    ) -> None:
        self._settings = settings
        self._runner = web.AppRunner(
            admin_app(exposition, readiness, settings.token.get_secret_value()),
            access_log=None,
            logger=library_logger(logger),
            shutdown_timeout=FORCED,
        )

    @property
    def address(self) -> Address:
        """Where it really listens."""
        where = self._runner.addresses[0]
        return Address(where[0], where[1])

    async def open(self) -> None:
        """Listen.

        Raises:
            CannotListenError: it cannot.
        """
        await self._runner.setup()
        await open_site(self._runner, self._settings.listen)

    async def close(self) -> None:
        """Listen no more."""
        await self._runner.cleanup()
