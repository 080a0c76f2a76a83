"""Connections to one Flowise server: opens them, limits their number, reuses idle ones while the server keeps them."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from gateway.causes import cause_of
from gateway.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from gateway.upstream.connection import Connection
from gateway.upstream.large_reads import LargeReads


@dataclass(frozen=True, slots=True)
class Server:
    """Address of a Flowise server. `prefix`: the segments of its URL's path."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    prefix: tuple[str, ...] = ()

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def tls_context(ca: Path | None) -> ssl.SSLContext:
    """A context that verifies against the system's authorities, or against the one in the file `ca`.

    Raises:
        OSError: the file cannot be read or holds no certificate.
    """
    return ssl.create_default_context(cafile=None if ca is None else str(ca))


class Pool:
    """At most `max_connections`, open or opening. `connect_timeout` (seconds) also bounds the wait for a free one."""

    def __init__(
        self,
        server: Server,
        *,
        max_connections: int,
        connect_timeout: float,
        on_connect: Callable[[float], None] = lambda _: None,
        reads: LargeReads | None = None,
    ) -> None:
        """`on_connect` is called with the seconds that a new connection took. `reads`: shared with other pools."""
        self._reads = reads or LargeReads()
        self.server = server
        self._max_connections = max_connections
        self._connect_timeout = connect_timeout
        self._on_connect = on_connect
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_closed = self._is_draining = False

    def __repr__(self) -> str:
        counts = f"{len(self._open)} open, {len(self._idle)} idle, {len(self._waiting)} waiting"
        return f"<Pool {self.server}: {counts}>"

    async def acquire(self, *, fresh: bool = False) -> Connection:
        """The idle connection that was used last, else a new one; with `fresh` always a new one.

        Raises:
            Overloaded: all connections stayed busy for `connect_timeout`.
            UpstreamUnreachable: the server refused, or its certificate is not valid.
            UpstreamTimeout: the server did not accept within `connect_timeout`.
        """
        deadline = asyncio.get_running_loop().time() + self._connect_timeout
        try:
            async with asyncio.timeout_at(deadline):
                while not self._is_closed:
                    if not fresh and (connection := self._take_idle()):
                        return connection
                    if self._has_capacity or self._drop_one_idle():
                        break
                    await self._wait_for_capacity()
        except TimeoutError:
            raise Overloaded("All connections to Flowise are busy; try again shortly.") from None
        return await self._connect(deadline)

    def sweep(self, now: float) -> None:
        """Close idle connections that the server is about to close. `now`: monotonic seconds."""
        for connection in [c for c in self._idle if c.is_closed or c.usable_until <= now]:
            self._idle.remove(connection)
            connection.close()

    def resize(self, max_connections: int, connect_timeout: float) -> None:
        """Follow a new configuration; connections above a smaller number stay open."""
        self._max_connections = max_connections
        self._connect_timeout = connect_timeout
        self._wake_one()

    def drain(self) -> None:
        """Close idle connections now, and the others once they are idle. Requests that need one still get it."""
        self._is_draining = True
        while self._idle:
            self._drop(self._idle.pop())

    def close(self) -> None:
        """Close every connection; one that is still being opened is closed at once."""
        self._is_closed = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        for connection in list(self._open):
            connection.close()
        self._idle.clear()

    def _take_idle(self) -> Connection | None:
        self.sweep(monotonic())
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
            self._drop(connection)
        return None

    def _drop_one_idle(self) -> bool:
        if not self._idle:
            return False
        self._drop(self._idle.pop(0))
        return True

    def _drop(self, connection: Connection) -> None:
        """Close an idle connection; its place is free at once."""
        self._open.discard(connection)
        connection.close()

    async def _wait_for_capacity(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # woken and cancelled at once: pass it on
                self._wake_one()
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    async def _connect(self, deadline: float) -> Connection:
        server, loop = self.server, asyncio.get_running_loop()
        self._opening += 1
        began = monotonic()
        try:
            async with asyncio.timeout_at(deadline):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._on_idle, self._on_closed, self._reads),
                    server.host,
                    server.port,
                    ssl=server.tls,
                )
            if self._is_closed:
                connection.close()
            if connection.is_closed:  # lost before this task woke, and reported to `_on_closed` already
                raise ConnectionResetError("closed at once")
            self._open.add(connection)
            self._on_connect(monotonic() - began)
        except TimeoutError:
            raise UpstreamTimeout(
                f"Flowise did not accept a connection within {self._connect_timeout:g} s."
            ) from None
        except (OSError, UnicodeError) as error:  # UnicodeError: an impossible host name
            raise UpstreamUnreachable("Flowise cannot be reached.", cause_of(error)) from error
        finally:
            self._opening -= 1
            self._wake_one()
        return connection

    def _on_idle(self, connection: Connection) -> None:
        if self._is_draining:
            self._drop(connection)
        else:
            self._idle.append(connection)
        self._wake_one()

    def _on_closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._wake_one()

    @property
    def _has_capacity(self) -> bool:
        return len(self._open) + self._opening < self._max_connections

    def _wake_one(self) -> None:
        while self._waiting and (self._idle or self._has_capacity):
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
