"""TLS on the public port: accepts connections itself, and lets those that begin a handshake become clients.

The event loop would accept them too, but shows a connection only after its handshake, which may take a minute. Here one
counts from its first moment, against the limits of connections and with the deadline of a request head. Each handshake
costs about a millisecond of computing: a few begin in one iteration of the loop, so that a crowd of new clients does
not hold the others up.
"""

from __future__ import annotations

import asyncio
import errno
import math
import socket
import ssl
import uuid
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic

from gateway.aio import Tasks
from gateway.causes import cause_of
from gateway.errors import BadRequest
from gateway.exchange import SERVER
from gateway.flowise.error_responses import error_response
from gateway.http.forwarded import site_of
from gateway.server.guard import ConnectionGuard
from gateway.server.listener import LINGER, Listener
from gateway.telemetry.logs import Logger

AT_ONCE = (
    4  # handshakes that begin in one iteration of the loop; one with an RSA key of 4,096 bits takes 7 ms
)
MOST_ACCEPTED = 32  # connections, likewise
PAUSE = 1.0  # seconds without accepting while the system has no descriptor
SHUTDOWN = 1.0  # seconds for the client's part of the end of TLS
_HANDSHAKE = b"\x16"  # the first byte of a TLS record with a handshake; RFC 8446 5.1
_READ = 64 * 1024
_NO_RESOURCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
OK, PLAIN_HTTP, NOT_TLS, LEFT, ABORTED = "ok", "plain_http", "not_tls", "left", "aborted"
VERSION, CLIENT_CERTIFICATE, REFUSED, FAILED = "version", "client_certificate", "refused", "failed"
RESULTS = (OK, PLAIN_HTTP, NOT_TLS, LEFT, ABORTED, VERSION, CLIENT_CERTIFICATE, REFUSED, FAILED)
# Parts of the reasons that OpenSSL gives.
_BY_REASON = (
    ("ALERT", REFUSED),  # sent by the client, which does not accept our certificate, for one
    ("PEER_DID_NOT_RETURN", CLIENT_CERTIFICATE),
    ("CERTIFICATE_VERIFY", CLIENT_CERTIFICATE),
    ("VERSION", VERSION),
    ("UNSUPPORTED", VERSION),
    ("NO_SHARED_CIPHER", VERSION),
)
_ADVICE = BadRequest("This port takes HTTPS only. Write https:// in place of http://.")


class Handshake:
    """A connection from its first moment to the end of its handshake, for the `ConnectionGuard`."""

    late = "slow_handshake"

    def __init__(self, client: socket.socket, address: str, due: float, on_end: Callable[[], None]) -> None:
        """`due`: monotonic seconds until which the head of the first request must be there, too."""
        self.client = client
        self.address = address
        self.site = site_of(address)
        self.head_due = due
        self.task: asyncio.Task[None] | None = None
        self.is_closed = self.is_aborted = False
        self.is_shaking = False  # the loop has the socket, and closes it
        self._on_end = on_end

    def abort(self) -> None:
        """Close it now, whatever the client does."""
        self.head_due = math.inf
        self.is_aborted = True
        if self.task is not None:
            self.task.cancel()
        else:
            self.close()

    def close(self) -> None:
        """It is over; without a handshake the socket is closed here."""
        if not self.is_closed:
            self.is_closed = True
            on_end, self._on_end = self._on_end, _nothing  # which knows this object: a cycle
            on_end()


class TlsAcceptor:
    """From `open`, for each listening socket, to `stop` and `close`."""

    def __init__(
        self,
        listener: Listener,
        guard: ConnectionGuard,
        context: Callable[[], ssl.SSLContext],
        count: Callable[[str], None],
        logger: Logger,
    ) -> None:
        """`context`: the current one, with the certificate. `count`: called with the result of each handshake."""
        self._listener = listener
        self._guard = guard
        self._context = context
        self._count = count
        self._logger = logger
        self._tasks = Tasks(lambda error: logger.error("bug", error=repr(error), exc_info=error))
        self._listening: list[socket.socket] = []
        self._open: set[Handshake] = set()
        self._ready: deque[Handshake] = deque()
        self._is_starting = False
        self._has_warned = False

    def open(self, listening: socket.socket) -> None:
        """Accept from this socket, which is this object's from now on."""
        self._listening.append(listening)
        self._resume(listening)

    def stop(self) -> None:
        """Accept no more; handshakes that have begun go on."""
        loop = asyncio.get_running_loop()
        for listening in self._listening:
            loop.remove_reader(listening)
            listening.close()
        self._listening.clear()

    async def close(self) -> None:
        self.stop()
        for handshake in list(self._open):
            handshake.abort()
        await self._tasks.join(0)

    # -- arrival -----------------------------------------------------------------------------------

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._listening:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(MOST_ACCEPTED):
            try:
                client, place = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_RESOURCE:
                    self._pause(listening, error)
                    return
                continue  # this client has left
            client.setblocking(False)
            self._begin(client, place[0])
        self._has_warned = False

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """The socket stays readable, so the loop would turn without end."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        loop.call_later(PAUSE, self._resume, listening)
        if not self._has_warned:
            self._has_warned = True
            self._logger.warning("cannot_accept", reason=cause_of(error).words)

    def _begin(self, client: socket.socket, address: str) -> None:
        due = monotonic() + self._listener.head_seconds
        handshake = Handshake(client, address, due, lambda: self._ended(handshake))
        self._open.add(handshake)
        self._guard.opened(handshake)
        if not handshake.is_closed:
            self._first_byte(handshake)

    def _ended(self, handshake: Handshake) -> None:
        if not handshake.is_shaking:
            asyncio.get_running_loop().remove_reader(handshake.client)
            handshake.client.close()
        if handshake.is_aborted:
            self._count(ABORTED)
        self._open.discard(handshake)
        self._guard.closed(handshake)

    # -- what the client begins with ---------------------------------------------------------------

    def _first_byte(self, handshake: Handshake) -> None:
        """Look at it, without taking it from the handshake."""
        loop = asyncio.get_running_loop()
        try:
            first = handshake.client.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            loop.add_reader(handshake.client, self._first_byte, handshake)
            return
        except OSError:
            first = b""
        loop.remove_reader(handshake.client)
        if first == _HANDSHAKE:
            self._ready.append(handshake)
            self._start_soon()
        elif first:
            self._refuse(handshake, PLAIN_HTTP if first.isupper() else NOT_TLS)
        else:
            self._count(LEFT)
            handshake.close()

    def _refuse(self, handshake: Handshake, result: str) -> None:
        """End it in order: read on for a moment, because bytes that are not read would reset the answer away."""
        is_http = result == PLAIN_HTTP
        self._failed(handshake, result, "plain HTTP" if is_http else "not TLS")
        handshake.head_due = math.inf
        loop = asyncio.get_running_loop()
        try:
            if is_http:
                handshake.client.send(_advice())
            handshake.client.shutdown(socket.SHUT_WR)
        except OSError:
            handshake.close()
            return
        loop.add_reader(handshake.client, self._discard, handshake)
        loop.call_later(LINGER, handshake.close)

    def _discard(self, handshake: Handshake) -> None:
        try:
            rest = handshake.client.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            rest = b""
        if not rest:
            handshake.close()

    # -- the handshake -----------------------------------------------------------------------------

    def _start_soon(self) -> None:
        if self._ready and not self._is_starting:
            self._is_starting = True
            asyncio.get_running_loop().call_soon(self._start_some)

    def _start_some(self) -> None:
        self._is_starting = False
        for _ in range(min(AT_ONCE, len(self._ready))):
            handshake = self._ready.popleft()
            if not handshake.is_closed:
                handshake.task = self._tasks.start(self._shake(handshake), "TLS handshake")
                handshake.task.add_done_callback(partial(_close, handshake))
        self._start_soon()

    async def _shake(self, handshake: Handshake) -> None:
        """Open a connection whose protocol counts in the place of the handshake as soon as it is made."""
        loop = asyncio.get_running_loop()
        handshake.is_shaking = True
        connection = self._listener.after(handshake)
        try:
            await loop.connect_accepted_socket(
                lambda: connection,
                handshake.client,
                ssl=self._context(),
                ssl_handshake_timeout=self._listener.head_seconds + PAUSE,  # the guard's deadline comes first
                ssl_shutdown_timeout=SHUTDOWN,
            )
        except OSError as error:
            self._failed(handshake, result_of(error), cause_of(error).words)
        else:
            self._count(OK)
        finally:
            connection.give_up_unless_made()

    def _failed(self, handshake: Handshake, result: str, words: str) -> None:
        self._count(result)
        if result != LEFT:  # a probe of a balancer, or a client that has closed its window
            address, site, now = handshake.address, handshake.site, monotonic()
            self._guard.log(
                "tls_handshake_failed", words, site, now, client=address, result=result, reason=words
            )


def _nothing() -> None:
    """In place of what is called at the end, which has come."""


def _advice() -> bytes:
    """The answer to plain HTTP."""
    request_id = uuid.uuid4().hex
    content = error_response(_ADVICE, request_id)
    fields = {**content.headers, "Server": SERVER, "X-Request-ID": request_id, "Connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"HTTP/1.1 {content.status} Bad Request\r\n{lines}Content-Length: {len(content.body)}\r\n\r\n"
    return head.encode() + content.body


def _close(handshake: Handshake, _: asyncio.Task[None]) -> None:
    handshake.close()


def result_of(error: OSError) -> str:
    """What became of a handshake that failed, as one of `RESULTS`."""
    if isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError):
        return LEFT
    reason = error.reason or ""
    return next((result for part, result in _BY_REASON if part in reason), FAILED)
