"""The admin listener: the live page, metrics, probes, `/config` and the OpenAPI documents on a port of their own.

It has the bounds of the public one.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import socket
from collections.abc import Callable, Sequence
from functools import partial

from aiohttp import hdrs
from msgspec import Struct

from gateway import __version__, web
from gateway.aio import WorkThread
from gateway.command_errors import CannotRunError
from gateway.config import Address, AdminSettings, ServerSettings, ServerTimeouts
from gateway.exchange import SERVER
from gateway.openapi import admin_document_json, document_json
from gateway.page.feed import Feed
from gateway.policies.routing import REFUSAL
from gateway.server.guard import ConnectionGuard
from gateway.server.listener import Handler, Listener
from gateway.server.page import AdminPath, LivePage
from gateway.server.sockets import ADMIN, Port
from gateway.telemetry.logs import Logger

SHUTDOWN_TIMEOUT = 1.0  # seconds; aiohttp spends it twice on a scrape in progress
MAX_CONNECTIONS, MAX_PER_ADDRESS = (
    100,
    20,
)  # probes and scrapers keep a few; more would take descriptors of clients
TIMEOUTS = ServerTimeouts()  # the defaults of the public port
MOST_SCRAPES = 4  # that are rendered or wait for it
PROBES = ("/livez", "/readyz")
_BEARER = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)
Exposition = Callable[[str], tuple[bytes, str]]  # Accept header to body and content type
Readiness = Callable[[], str]  # empty when ready, else one word that says why not
_MAX_ACCEPT = 1024  # characters of an Accept field


class AdminAnswers(Struct, frozen=True):
    """What the admin listener answers with.

    Attributes:
        exposition: metrics, in a thread.
        readiness: on the loop.
        configuration: that of `GET /config` in JSON, in a thread.
        feed: of the live page; None: there is no page.
    """

    exposition: Exposition
    readiness: Readiness
    configuration: Callable[[], bytes]
    feed: Feed | None = None


class AdminListener:
    """The probes and the scrape on their port, from `open` to `close`. `tick` is for the coarse timer."""

    def __init__(self, settings: AdminSettings, answers: AdminAnswers, logger: Logger) -> None:
        self._settings = settings
        self._port = Port([settings.listen], ADMIN)
        self._is_closed = False
        self._thread = WorkThread("metrics", MOST_SCRAPES)
        bounds = ServerSettings.model_construct(
            timeouts=TIMEOUTS, max_connections=MAX_CONNECTIONS, max_connections_per_address=MAX_PER_ADDRESS
        )
        guard = ConnectionGuard(bounds, logger, lambda: None)
        self.tick = guard.tick
        self._log = guard.log
        self._feed = answers.feed
        self.use(settings)
        handler = admin_handler(answers, self._token, self._thread)
        self._listener = Listener(handler, bounds, guard, logger)

    @property
    def address(self) -> Address:
        """The bound address; valid from `reserve` on."""
        host, port = self._port.sockets[0].getsockname()[:2]
        return Address(host, port)

    @property
    def sockets(self) -> list[socket.socket]:
        return self._port.sockets

    def use(self, settings: AdminSettings) -> None:
        """Follow a new configuration; the address stays."""
        self._settings = settings
        if self._feed is not None:
            self._feed.use(is_on=settings.page)

    def _token(self) -> str:
        return self._settings.token.get_secret_value()

    async def reserve(self, passed: Sequence[socket.socket] = ()) -> None:
        """Bind the port, or use listening sockets that were passed.

        Raises:
            CannotListenError: the address is taken or not local.
            CannotRunError: other machines reach what was passed, and there is no token.
        """
        self._port = Port([self._settings.listen], ADMIN, passed)
        await self._port.open()
        address = self.address
        if passed and not address.is_loopback and not self._settings.token.get_secret_value():
            await self._port.stop()
            raise CannotRunError(
                f"The admin port that was passed is {address}, which other machines reach."
                " Write a token into admin.token, or pass one on a loopback address."
            )

    async def open(self) -> None:
        """Accept connections on the reserved port.

        Raises:
            CannotListenError: another process listens there by now.
        """
        if self._feed is not None:
            self._feed.open()
        await self._port.serve(self._listener)

    async def close(self) -> None:
        """Let go of the port, and end its connections."""
        if not self._is_closed:
            self._is_closed = True
            await self._port.stop()
            if self._feed is not None:
                await self._feed.close()
            await self._listener.close(SHUTDOWN_TIMEOUT)
            await self._thread.close()
            self._log.close()


def admin_handler(content: AdminAnswers, current_token: Callable[[], str], thread: WorkThread) -> Handler:
    """Answers the requests of the admin listener. An empty token disables authentication."""
    answers = _answers(content, thread)
    page = None if content.feed is None else LivePage(content.feed, lambda: bool(current_token()))

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        found, token = answers.get(request.path), current_token()
        if found is None and page is not None:
            found = page.find(request.path)
        needs_token = request.path not in PROBES if found is None else found.needs_token
        response: web.StreamResponse
        refusal = request.get(REFUSAL)
        if refusal is not None:  # its fields, the token among them, are not all there
            response = web.Response(status=refusal.status, text=f"{refusal.message}\n")
        elif token and needs_token and not _is_bearer_of(token, request):
            response = web.Response(status=401, headers={hdrs.WWW_AUTHENTICATE: 'Bearer realm="admin"'})
        elif found is None:
            names = [*([] if page is None else page.names), *answers]
            response = web.Response(status=404, text=f"The paths here are {', '.join(names)}.\n")
        elif request.method not in found.methods:
            response = web.Response(status=405, headers={hdrs.ALLOW: ", ".join(found.methods)})
        else:
            response = await found.answer(request)
        if not response.prepared:
            response.headers[hdrs.SERVER] = SERVER
        return response

    return handle


def _answers(content: AdminAnswers, thread: WorkThread) -> dict[str, AdminPath]:
    """What answers each path."""

    async def livez(_: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.BaseRequest) -> web.Response:
        reason = content.readiness()
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ok'}\n")

    async def metrics(request: web.BaseRequest) -> web.Response:
        accept = request.headers.get(hdrs.ACCEPT, "")[:_MAX_ACCEPT]
        try:
            # In a thread: it takes about a millisecond per route, and every value has its own lock.
            body, content_type = await thread.run(content.exposition, accept)
        except asyncio.QueueFull:
            return _busy()
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def config(_: web.BaseRequest) -> web.Response:
        try:
            body = await thread.run(content.configuration)
        except asyncio.QueueFull:
            return _busy()
        return web.Response(
            body=body, content_type="application/json", headers={hdrs.CACHE_CONTROL: "no-store"}
        )

    return {
        "/livez": AdminPath(livez, needs_token=False),
        "/readyz": AdminPath(readyz, needs_token=False),
        "/metrics": AdminPath(metrics),
        "/config": AdminPath(config),
        "/openapi.json": AdminPath(partial(_described, document_json)),
        "/openapi-admin.json": AdminPath(partial(_described, admin_document_json)),
    }


async def _described(document: Callable[[str], bytes], _: web.BaseRequest) -> web.Response:
    return web.Response(body=document(__version__), content_type="application/json")


def _busy() -> web.Response:
    return web.Response(status=503, text="Other scrapes are in progress. Try again shortly.\n")


def _is_bearer_of(token: str, request: web.BaseRequest) -> bool:
    given = request.headers.getall(hdrs.AUTHORIZATION, [])
    found = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
    return found is not None and hmac.compare_digest(found[1].encode(), token.encode())
