"""The admin listener: `/metrics`, `/livez` and `/readyz` on a port of their own."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from gateway.config import Address, AdminSettings
from gateway.server.listener import library_logger
from gateway.server.sockets import ADMIN, open_site
from gateway.telemetry.logs import Logger

SHUTDOWN_TIMEOUT = 1.0  # seconds; aiohttp spends it twice on a scrape in progress
Exposition = Callable[[str], tuple[bytes, str]]  # Accept header to body and content type
Readiness = Callable[[], str]  # empty when ready, else one word that says why not


class AdminListener:
    """The admin application on its port, from `open` to `close`."""

    def __init__(
        self, settings: AdminSettings, exposition: Exposition, readiness: Readiness, logger: Logger
    ) -> None:
        self._settings = settings
        self._runner = web.AppRunner(
            admin_app(exposition, readiness, settings.token.get_secret_value()),
            access_log=None,
            logger=library_logger(logger),
            shutdown_timeout=SHUTDOWN_TIMEOUT,
        )

    @property
    def address(self) -> Address:
        """The bound address; valid once open."""
        host, port = self._runner.addresses[0][:2]
        return Address(host, port)

    async def open(self) -> None:
        """Start to listen.

        Raises:
            CannotListenError: the address is taken or not local.
        """
        await self._runner.setup()
        await open_site(self._runner, self._settings.listen, ADMIN)

    async def close(self) -> None:
        await self._runner.cleanup()


def admin_app(exposition: Exposition, readiness: Readiness, token: str) -> web.Application:
    """The admin listener's application. An empty `token` disables authentication."""
    expected = _bytes(f"Bearer {token}")

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = readiness()
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ok'}\n")

    async def metrics(request: web.Request) -> web.Response:
        accept = request.headers.get(hdrs.ACCEPT, "")
        # In a thread: it takes about a millisecond per route, and every value has its own lock.
        body, content_type = await asyncio.to_thread(exposition, accept)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    @web.middleware
    async def authenticate(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if token and request.path not in ("/livez", "/readyz"):
            given = _bytes(request.headers.get(hdrs.AUTHORIZATION, ""))
            if not hmac.compare_digest(given, expected):
                raise web.HTTPUnauthorized(headers={hdrs.WWW_AUTHENTICATE: 'Bearer realm="admin"'})
        return await handler(request)

    app = web.Application(middlewares=[authenticate])
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


def _bytes(text: str) -> bytes:
    """Header bytes from aiohttp's text, in which a byte that is not UTF-8 is a lone surrogate."""
    return text.encode(errors="surrogateescape")
