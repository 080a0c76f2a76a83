"""The public listener's connections: who may open one, how slowly a head may come, how long a client may stall.

aiohttp parses and answers; what it has no limit for is watched here, from the process's one coarse timer.
A request that cannot be parsed gets a 400 and one log line, never a traceback and never its bytes.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, cast

from aiohttp import StreamReader, web

from gateway.config import ServerSettings
from gateway.errors import BadRequest, Failed
from gateway.exchange import SERVER, UNDER_TOKEN
from gateway.flowise.error_responses import error_response
from gateway.http.forwarded import is_trusted
from gateway.telemetry.logs import LibraryLog, Logger

READ_BUFFER = 64 * 1024
_UNPARSABLE = BadRequest("This is not a valid HTTP/1.1 request.")
_UNANSWERED = Failed("The gateway could not answer.")
LINGER = 1.0  # seconds in which the rest of a refused body is read, so that the client reads the refusal


class ConnectionGuard:
    """Counts connections and looks after idle, slow and stalled ones. Times are monotonic seconds."""

    def __init__(self, settings: ServerSettings, logger: Logger) -> None:
        self._settings = settings
        self._logger = logger
        self._open: set[ClientConnection] = set()
        self._by_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, connection: ClientConnection) -> None:
        """A connection stands; close it if there are too many."""
        settings, address = self._settings, connection.address
        self._open.add(connection)
        self._by_address[address] += 1
        if len(self._open) > settings.max_connections:
            self._refuse(connection, "max_connections")
        elif self._by_address[address] > settings.max_connections_per_address and not is_trusted(
            address, settings.trusted_proxies
        ):
            self._refuse(connection, "max_connections_per_address")

    def closed(self, connection: ClientConnection) -> None:
        """It is gone."""
        self._open.discard(connection)
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]

    def tick(self, now: float) -> None:
        """Cut off heads that take too long, and clients that do not take the rest of an answer."""
        for connection in list(self._open):
            if connection.head_due <= now:
                self._refuse(connection, "slow_head")
            elif connection.has_stalled(now, self._settings.timeouts.send):
                self._refuse(connection, "stalled")

    def unanswerable(
        self, connection: ClientConnection, request_id: str, error: BaseException | None
    ) -> None:
        """Aiohttp could not parse a request, or not answer it; nothing of its bytes is said."""
        self._logger.warning(
            "unparsable_request",
            request_id=request_id,
            client=connection.address,
            error=None if error is None else type(error).__name__,
        )

    def _refuse(self, connection: ClientConnection, reason: str) -> None:
        self._logger.warning("connection_closed", reason=reason, client=connection.address)
        connection.abort()


class ClientConnection(web.RequestHandler):
    """aiohttp's protocol for one client, with an eye on the clock."""

    __slots__ = (
        "_content",
        "_guard",
        "_head_seconds",
        "_is_answering",
        "_socket",
        "_unsent",
        "_unsent_since",
        "address",
        "head_due",
    )

    def __init__(
        self, manager: web.Server, guard: ConnectionGuard, settings: ServerSettings, **options: Any
    ) -> None:
        super().__init__(manager, **options)
        self._guard = guard
        self._head_seconds = settings.timeouts.headers
        self._socket: asyncio.Transport | None = None
        self._is_answering = False
        self._content: StreamReader | None = None
        self._unsent = 0
        self._unsent_since = 0.0
        self.head_due = float("inf")
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: it stands; the first head is due."""
        super().connection_made(transport)
        self._socket = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if peer else ""
        self.head_due = monotonic() + self._head_seconds
        self._guard.opened(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came; between two answers they begin a head."""
        is_tail = self._content is not None and not self._content.is_eof()  # of a body that was refused
        if not self._is_answering and not is_tail and self.head_due == float("inf"):
            self.head_due = monotonic() + self._head_seconds
        super().data_received(data)
        self._end_broken_body()

    def _end_broken_body(self) -> None:
        """Tell who reads a body that its framing broke; aiohttp would let him wait, and answer a second time.

        It queues the parser's error as one more message, and nothing can be parsed behind an unfinished body.
        """
        request = self._current_request
        if request is not None and self._messages and not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError("broken framing"))
            self.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """asyncio: it is gone."""
        super().connection_lost(exc)
        self._socket = None
        self._guard.closed(self)

    def head_complete(self, request: web.BaseRequest) -> None:
        """A request is being answered."""
        self._is_answering = True
        self._content = request.content
        self.head_due = float("inf")

    def answered(self) -> None:
        """The handler has returned."""
        self._is_answering = False
        request = self._current_request
        if request is not None and request.content.exception() is not None:
            request.content.feed_eof()  # aiohttp would linger for the rest of a body that has none

    def has_stalled(self, now: float, seconds: float) -> bool:
        """Whether unsent bytes, that no stream looks after, have not become fewer for so long."""
        transport = self._socket
        unsent = 0
        if transport is not None and transport.get_protocol() is self:
            unsent = transport.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        return unsent > 0 and now - self._unsent_since > seconds

    def abort(self) -> None:
        """Give the client up at once."""
        self.head_due = float("inf")
        if self._socket is not None:
            self._socket.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it repeats the request's bytes
    ) -> web.StreamResponse:
        """aiohttp: a request that could not be parsed, or an answer that could not be made.

        Raises:
            ConnectionError: the answer has begun; a second head must not stand in its body.
        """
        self.head_due = float("inf")
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        error, request_id = _UNPARSABLE if status < 500 else _UNANSWERED, uuid.uuid4().hex
        self._guard.unanswerable(self, request_id, exc)
        said = error_response(error, request_id, "", is_run=False)
        # its path is not known
        headers = {**said.headers, **UNDER_TOKEN, "Server": SERVER, "X-Request-ID": request_id}
        response = web.Response(status=said.status, headers=headers, body=said.body)
        response.force_close()
        return response


class Listener(web.Server):
    """aiohttp's low-level server: no router, so no second reading of paths, and no early `100 Continue`."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], plan: ListenerPlan
    ) -> None:
        super().__init__(_watched(handler), handler_cancellation=True)
        self._plan = plan
        self._options: dict[str, Any] = {
            "loop": asyncio.get_running_loop(),
            "keepalive_timeout": plan.settings.timeouts.keep_alive,
            "lingering_time": LINGER,
            "read_bufsize": READ_BUFFER,
            "access_log": None,
            "auto_decompress": False,
            "logger": library_logger(plan.logger),
        }

    def __call__(self) -> ClientConnection:
        """asyncio: a protocol for a new connection."""
        return ClientConnection(self, self._plan.guard, self._plan.settings, **self._options)


@dataclass(frozen=True, slots=True)
class ListenerPlan:
    """What a listener needs."""

    settings: ServerSettings
    guard: ConnectionGuard
    logger: Logger


def library_logger(logger: Logger) -> logging.Logger:
    """A logger for aiohttp that ends in our own log; registered nowhere."""
    library = logging.Logger("aiohttp")  # noqa: LOG001 - on purpose outside of the global tree
    library.addHandler(LibraryLog(logger))
    return library


def _watched(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        if isinstance(connection, ClientConnection):
            connection.head_complete(request)
        try:
            return await handler(request)
        finally:
            if isinstance(connection, ClientConnection):
                connection.answered()

    return handle
