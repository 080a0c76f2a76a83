"""The public listener: slow request heads, stalled clients, requests that cannot be parsed.

aiohttp parses and answers. The limits it lacks are here and in `guard`, and checked by the process's coarse timer. A
request that cannot be parsed gets a 400, is counted and has one log line, without a traceback and without its bytes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from operator import attrgetter
from time import monotonic
from typing import Any, cast

from aiohttp import HttpVersion11, StreamReader, hdrs

from gateway import web
from gateway.aio import untaken
from gateway.config import ServerSettings
from gateway.errors import BadRequest, Failed
from gateway.exchange import SERVER, UNDER_TOKEN
from gateway.flowise.error_responses import error_response
from gateway.http.forwarded import UNIX_PEER, site_of
from gateway.http.syntax_errors import sentence_for
from gateway.policies.routing import REFUSAL
from gateway.server.guard import ConnectionGuard, Guarded
from gateway.server.request_parser import READ_BUFFER, RequestParser, parser_options
from gateway.telemetry.logs import LibraryLog, Logger
from gateway.upstream.large_reads import SMALL, LargeReads, SlicedReads

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# requests, and bytes, behind one whose answer stays open for `BEHIND_FOR` seconds
MAX_PIPELINED, MAX_BEHIND = 16, 16 * 1024
BEHIND_FOR = 1.0
LONGEST_SUBJECT = 256  # characters of a client's certificate in the log
LINGER = 1.0  # seconds to read the rest of a refused body, so that the client reads the response
_UNANSWERED = Failed("The gateway could not answer.")


class Listener(web.Server):
    """aiohttp's low-level server: no router that decodes paths again, and no early `100 Continue`."""

    def __init__(
        self,
        handler: Handler,
        settings: ServerSettings,
        guard: ConnectionGuard,
        logger: Logger,
        reads: LargeReads | None = None,
    ) -> None:
        """`reads`: shared with the replies of Flowise."""
        request = partial(_Request, loop=asyncio.get_running_loop())
        super().__init__(_tracked(handler), request_factory=request, handler_cancellation=True)
        self.reads = reads or LargeReads()
        self._guard = guard
        self._logger = library_logger(logger)
        self.use(settings)

    def use(self, settings: ServerSettings) -> None:
        """Follow a new configuration; connections that are open keep their timeouts and bounds."""
        self._settings = settings
        self._options: dict[str, Any] = {
            "loop": asyncio.get_running_loop(),
            "keepalive_timeout": settings.timeouts.keep_alive,
            "lingering_time": LINGER,
            "read_bufsize": READ_BUFFER,
            "access_log": None,
            "auto_decompress": False,
            "logger": self._logger,
            **parser_options(settings.max_header),
        }

    def __call__(self) -> ClientConnection:
        """Return the protocol of a new connection, for asyncio."""
        return ClientConnection(self, self._guard, self._settings, **self._options)

    def after(self, before: Guarded) -> ClientConnection:
        """The same, of a connection that counts already; this one counts in its place once it is made."""
        connection = self()
        connection.before = before
        return connection

    async def close(self, within: float) -> None:
        """End all connections, for when nothing accepts any more. Handlers have twice `within` seconds."""
        await asyncio.sleep(0)  # the requests that have come begin
        self.pre_shutdown()
        await self.shutdown(within)

    @property
    def head_seconds(self) -> float:
        """How long a new connection may take for its first request head."""
        return self._settings.timeouts.headers


def _tracked(handler: Handler) -> Handler:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        if isinstance(connection, ClientConnection):
            connection.request_started(request)
        try:
            response = await handler(request)
            if hdrs.UPGRADE in request.headers:  # not served; what follows may be another protocol
                response.force_close()
            return response
        finally:
            if isinstance(connection, ClientConnection):
                connection.request_finished()

    return handle


class _Request(web.BaseRequest):
    """Does not keep what is asked for once: the dict in which aiohttp's keeps it would be 88 bytes larger."""

    raw_path = property(attrgetter("_message.path"))
    raw_headers = property(attrgetter("_message.raw_headers"))


class _Queue(list[Any]):
    """In place of aiohttp's deques, which take 760 bytes each: of requests, and of the pieces of a body.

    For those that mostly have one or none: to take the first of many would move all others.
    """

    __slots__ = ()

    def popleft(self) -> Any:
        return self.pop(0)

    def appendleft(self, one: Any) -> None:
        self.insert(0, one)


class ClientConnection(web.RequestHandler):
    """aiohttp's protocol for one client, with a deadline for each request head."""

    __slots__ = (
        "_behind",
        "_behind_since",
        "_content",
        "_guard",
        "_head_seconds",
        "_heads",
        "_is_answering",
        "_reads",
        "_socket",
        "_unparsed",
        "_unsent",
        "_unsent_since",
        "address",
        "before",
        "certificate",
        "head_due",
        "peername",
        "site",
    )
    late = "slow_head"
    # aiohttp would ask the system for this and for `peername` once more, and keep both; it is for requests without Host
    sockname = None

    def __init__(
        self, manager: Listener, guard: ConnectionGuard, settings: ServerSettings, **options: Any
    ) -> None:
        super().__init__(manager, **options)
        self._reads = manager.reads
        self._unparsed: SlicedReads | None = None  # of a client that has sent much at once
        self._messages = cast(Any, _Queue())
        self._heads = RequestParser(self._parser, self, settings.max_header)
        self._parser = cast(Any, self._heads)
        self._guard = guard
        self._head_seconds = settings.timeouts.headers
        self._socket: asyncio.Transport | None = None
        self._is_answering = False
        self._content: StreamReader | None = None
        self._unsent = 0
        self._unsent_since = 0.0
        self.head_due = float("inf")
        self._behind = 0  # bytes that came after the request that is being answered
        self._behind_since = math.inf
        self.address = self.site = ""
        self.peername: str | None = None  # `remote` of a request
        self.before: Guarded | None = None  # that counts until this one is made
        self.certificate = ""  # the subject of the client's, with mutual TLS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._socket = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")  # of a Unix socket a path, most often an empty one
        self.address = UNIX_PEER if isinstance(peer, str | bytes) else peer[0] if peer else ""
        self.peername = self.address
        self.site = site_of(self.address)
        self.head_due = monotonic() + self._head_seconds
        if self.before is not None:
            self.head_due = self.before.head_due
            self.certificate = _subject_of(transport.get_extra_info("peercert") or {})[:LONGEST_SUBJECT]
        before, self.before = self.before, None
        self._guard.opened(self, before)
        if not self.address:  # reset already; its requests could be counted for nobody
            self.abort()

    @property
    def may_parse(self) -> bool:
        return self._socket is not None and not self._reading_paused and not self._buffer_paused

    def read_on(self) -> None:
        if self.may_parse:
            super()._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        """The buffers of aiohttp take more: first what was read already."""
        if self._unparsed is not None and self._unparsed:
            self._unparsed.wait()
        else:
            super()._resume_transport_reading()

    def data_received(self, data: bytes) -> None:
        """Start the deadline of a request head with its first byte. A large read is parsed in slices."""
        if len(data) > SMALL and not (data := self._beginning(data)):
            return
        is_tail = self._content is not None and not self._content.is_eof()  # of a refused body
        if not self._is_answering and not is_tail and self.head_due == float("inf"):
            self.head_due = monotonic() + self._head_seconds
            self._guard.awaiting.add(self)
        if self._is_answering and not is_tail:
            self._behind += len(data)
            self._guard.watched.add(self)
        super().data_received(data)
        if self._messages and self._current_request is not None:
            self._fail_broken_body(self._current_request)

    def _beginning(self, data: bytes) -> bytes:
        """What may be parsed now. Nothing more is read before the rest has been."""
        if self._unparsed is None:
            self._unparsed = SlicedReads(self._reads, self)
        now = self._unparsed.beginning(data)
        if self._unparsed:
            self._pause_transport_reading()
        return now

    def _fail_broken_body(self, request: web.BaseRequest) -> None:
        """Raise in the reader of a body with broken framing.

        aiohttp would leave it waiting and send a second response: it queues the parser's error as another message.
        Nothing can be parsed behind an unfinished body.
        """
        if not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError("broken framing"))
            self.close()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - as aiohttp calls it
        """Called by aiohttp after each read of a body. Unless reading was paused, nothing waits to be parsed."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._socket = self._content = None
        self._heads.close()
        if self._unparsed is not None:
            self._unparsed.close()
        self._guard.closed(self)

    def give_up_unless_made(self) -> None:
        """Let go of the parsers if the handshake has failed, so that nothing waits for the garbage collector."""
        if self.before is not None:
            self.before = None
            self.force_close()
            self._parser = None
            self._heads.close()

    def request_started(self, request: web.BaseRequest) -> None:
        if self._heads.refusal is not None and request.content is self._heads.refused_body:
            request[REFUSAL] = self._heads.refusal
        self._is_answering = True
        self._behind, self._behind_since = 0, math.inf
        content = self._content = request.content
        # All requests without a body share one, which is left alone. A body that is here in one piece gets no more.
        if type(content) is StreamReader and content.is_eof() and len(content._buffer) == 1:  # noqa: SLF001 - its size
            content._buffer = _Queue(content._buffer)  # type: ignore[assignment]  # noqa: SLF001 - as above
        self.head_due = float("inf")
        self._guard.awaiting.discard(self)
        self._guard.watched.add(self)
        if self._guard.arrived is not None:  # not called for each request
            self._guard.head_came()

    def request_finished(self) -> None:
        self._is_answering = False
        if self._socket is not None:
            self._guard.watched.add(self)  # the end of the answer may wait for the client
        request = self._current_request
        if request is not None and request.content.exception() is not None:
            request.content.feed_eof()  # else aiohttp lingers for the rest of a broken body

    def look(self, now: float, send_timeout: float) -> str | None:
        """Why it is to be closed: nothing of what waits was taken for `send_timeout`, or too much came behind.

        While a request is answered, it also drops the timer of idle connections (520 bytes). A relayed stream has its
        own timeout, and is watched again when something comes behind it or it ends.
        """
        transport = self._socket
        is_relayed = transport is not None and transport.get_protocol() is not self
        waiting = 0 if is_relayed or transport is None else transport.get_write_buffer_size()
        unsent = 0 if waiting == 0 or transport is None else untaken(transport)
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > send_timeout:
            return "stalled"
        if not self._is_answering:
            return "" if unsent else None
        if self._keepalive_handle is not None:
            self.keep_alive(True)  # drops that timer; aiohttp makes another when it is idle
        if is_relayed and not (self._behind or self._messages or self._message_tail):
            return None
        return "pipelined" if self._has_too_much_behind(now) else ""

    def _has_too_much_behind(self, now: float) -> bool:
        """Whether the client has sent more requests or bytes than it may while one answer takes long.

        aiohttp then reads no more, so nothing shows that the client has left.
        """
        size = max(self._behind, len(self._message_tail))  # the tail: what follows a request to upgrade
        if size <= MAX_BEHIND and len(self._messages) <= MAX_PIPELINED:
            return False
        self._behind_since = min(self._behind_since, now)
        return now - self._behind_since >= BEHIND_FOR

    def abort(self) -> None:
        self.head_due = float("inf")
        if self._socket is not None:
            self._socket.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - repeats the request's bytes
    ) -> web.StreamResponse:
        """Respond to a request that aiohttp could not parse or answer.

        Raises:
            ConnectionError: the response has started, so a second head would be part of its body.
        """
        self.head_due = float("inf")
        if request.writer.output_size > 0:
            raise ConnectionError("The response has started.")
        if status < 500:
            request._version = HttpVersion11  # noqa: SLF001 - aiohttp takes what it could not parse for HTTP/1.0
        request_id = uuid.uuid4().hex
        error = BadRequest(sentence_for(str(exc))) if status < 500 else _UNANSWERED
        self._guard.unparsable(self, request_id, exc, error)
        if exc is not None and status < 500:
            exc.__traceback__ = None  # aiohttp's frame in it holds the error: a cycle
        content = error_response(error, request_id)
        # UNDER_TOKEN: the path is unknown and may hold a token.
        headers = {**content.headers, **UNDER_TOKEN, "Server": SERVER, "X-Request-ID": request_id}
        response = web.Response(status=content.status, headers=headers, body=content.body)
        response.force_close()
        return response


def _subject_of(certificate: dict[str, Sequence[Sequence[tuple[str, str]]]]) -> str:
    """The subject of a client's certificate as `SSLSocket.getpeercert` has it, like `commonName=backend`."""
    parts = [f"{name}={value}" for group in certificate.get("subject", ()) for name, value in group]
    return ",".join(parts)


def library_logger(logger: Logger) -> logging.Logger:
    """A logger for aiohttp that writes to the gateway's log."""
    library = logging.Logger("aiohttp")  # noqa: LOG001 - on purpose outside the global tree
    library.addHandler(LibraryLog(logger))
    return library
