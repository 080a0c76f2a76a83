"""Connections to one Flowise server: opens them, limits their number, reuses idle ones while the server keeps them."""

from __future__ import annotations

import asyncio
import errno
import math
import ssl
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from msgspec import Struct

from gateway.causes import cause_of
from gateway.config.proxies import Proxy
from gateway.connecting import destination
from gateway.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from gateway.upstream.connection import Connection
from gateway.upstream.large_reads import LargeReads
from gateway.upstream.proxying import through


class Place(Struct, frozen=True):
    """Where a server is.

    Attributes:
        address: the one of the host's addresses that is meant; empty: any.
        proxy: through which it is connected to.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    address: str = ""
    proxy: Proxy | None = None

    def __str__(self) -> str:
        """As it is configured, also for one of several addresses."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class PoolSettings(Struct, frozen=True):
    """Bounds of a pool; times in seconds.

    Attributes:
        max_connections: open or opening.
        connect_timeout: to get a connection: for the wait for a free one, and to open one.
        max_age: of a connection that is used again.
        keepalive: silence until TCP probes; 0: never.
    """

    max_connections: int
    connect_timeout: float
    max_age: float = math.inf
    keepalive: int = 0


def tls_context(ca: Path | None) -> ssl.SSLContext:
    """A context that verifies against the system's authorities, or against the one in the file `ca`.

    Raises:
        OSError: the file cannot be read or holds no certificate.
    """
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except ssl.SSLError as error:  # names no file
        raise OSError(errno.EINVAL, "it holds no certificate", str(ca)) from error


class Pool:
    """The connections to one server."""

    def __init__(
        self,
        place: Place,
        settings: PoolSettings,
        on_connect: Callable[[float], None] = lambda _: None,
        reads: LargeReads | None = None,
    ) -> None:
        """`on_connect` is called with the seconds that a new connection took. `reads`: shared with other pools."""
        self._reads = reads or LargeReads()
        self.place = place
        self.settings = settings
        self._on_connect = on_connect
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_closed = self._is_draining = False

    def __repr__(self) -> str:
        counts = f"{len(self._open)} open, {len(self._idle)} idle, {len(self._waiting)} waiting"
        return f"<Pool {self.place}: {counts}>"

    @property
    def busy(self) -> int:
        """Requests that have a connection, or get one."""
        return len(self._open) - len(self._idle) + self._opening + len(self._waiting)

    async def acquire(
        self, *, fresh: bool = False, deadline: float | None = None, share: float = 1.0
    ) -> Connection:
        """The idle connection that was used last, else a new one; with `fresh` always a new one.

        Args:
            fresh: take none that was used before.
            deadline: of the loop's clock; None: in `connect_timeout`.
            share: of the time that is left then, for opening one.

        Raises:
            Overloaded: all connections stayed busy until the deadline.
            UpstreamUnreachable: the server refused, or its certificate is not valid.
            UpstreamTimeout: the server did not accept in time.
        """
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + self.settings.connect_timeout
        try:
            async with asyncio.timeout_at(deadline):
                while not self._is_closed:
                    if not fresh and (connection := self.take_idle()):
                        return connection
                    if self._has_capacity or self._drop_one_idle():
                        break
                    await self._wait_for_capacity()
        except TimeoutError:
            raise Overloaded("All connections to Flowise are busy; try again shortly.") from None
        return await self._connect(deadline, share)

    def use(self, settings: PoolSettings) -> None:
        """Follow other settings from now on; with more connections, requests that wait get them at once."""
        self.settings = settings
        for _ in range(settings.max_connections - len(self._open) - self._opening):
            self._wake_one()

    def take_idle(self) -> Connection | None:
        """The idle connection that was used last, if one can take a request; waits for none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
            self._drop(connection)
        return None

    def sweep(self, now: float) -> None:
        """Close idle connections that the server is about to close. `now`: monotonic seconds."""
        for connection in [c for c in self._idle if c.is_closed or c.usable_until <= now]:
            self._idle.remove(connection)
            connection.close()

    def drain(self) -> None:
        """Close idle connections now, and the others once they are idle. Requests that need one still get it."""
        self._is_draining = True
        while self._idle:
            self._drop(self._idle.pop())

    @property
    def is_drained(self) -> bool:
        return self._is_draining and not (self._open or self._opening or self._waiting)

    def close(self) -> None:
        """Close every connection; one that is still being opened is closed at once."""
        self._is_closed = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        for connection in list(self._open):
            connection.close()
        self._idle.clear()

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

    async def _connect(self, deadline: float, share: float) -> Connection:
        loop = asyncio.get_running_loop()
        self._opening += 1
        began = monotonic()
        try:
            async with asyncio.timeout_at(deadline - (deadline - loop.time()) * (1 - share)):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._on_idle, self._on_closed, self._reads),
                    **await self._destination(),
                )
            if self._is_closed:
                connection.close()
            if connection.is_closed:  # lost before this task woke, and reported to `_on_closed` already
                raise ConnectionResetError("closed at once")
            self._open.add(connection)
            if self.settings.keepalive:
                connection.keep_alive(self.settings.keepalive)
            self._on_connect(monotonic() - began)
        except TimeoutError:
            raise UpstreamTimeout(
                f"Flowise did not accept a connection within {self.settings.connect_timeout:g} s."
            ) from None
        except (OSError, UnicodeError) as error:  # UnicodeError: an impossible host name
            raise UpstreamUnreachable("Flowise cannot be reached.", cause_of(error)) from error
        finally:
            self._opening -= 1
            self._wake_one()
        return connection

    async def _destination(self) -> dict[str, Any]:
        place = self.place
        if place.proxy is not None:
            return await through(place.proxy, place.host, place.port, place.tls)
        if place.address:
            name = {"ssl": place.tls, "server_hostname": place.host} if place.tls is not None else {}
            return {"host": place.address, "port": place.port, **name}
        return await destination(place.host, place.port, place.tls)

    def _on_idle(self, connection: Connection) -> None:
        connection.usable_until = min(connection.usable_until, connection.opened_at + self.settings.max_age)
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
        return len(self._open) + self._opening < self.settings.max_connections

    def _wake_one(self) -> None:
        while self._waiting and (self._idle or self._has_capacity):
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
