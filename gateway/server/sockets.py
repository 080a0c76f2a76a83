"""Listening sockets: opened here, or passed by another process; and the port that several workers share.

The sockets of a port are kept beside those that the event loop owns, so that a successor can get them: as long as any
process has a listening socket open, the connections that wait in its queue are not lost.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

from gateway import web
from gateway.config import Address, ListenAddress, UnixAddress
from gateway.server.binding import (
    CannotListenError,
    address_of,
    beside,
    bind_all,
    cannot_listen,
    close_all,
    copy_of,
    is_unix,
    open_unix,
    taken_from,
)
from gateway.server.socket_files import BACKLOG, SocketFile

PUBLIC = "server.listen (--listen, GATEWAY_LISTEN)"
ADMIN = "admin.listen (--admin-listen, GATEWAY_ADMIN_LISTEN)"
SOCKET_MODE = 0o660


class Port:
    """The sockets of the listeners of one process, from `open` to `stop`."""

    def __init__(
        self,
        wanted: Sequence[ListenAddress],
        setting: str = PUBLIC,
        given: Sequence[socket.socket] = (),
        *,
        mode: int = SOCKET_MODE,
        is_shared: bool = False,
    ) -> None:
        """A port that is not open.

        Args:
            wanted: where to listen.
            setting: where the addresses are written, for the error.
            given: listening sockets of the parent or the service manager, which are used in place of `wanted`.
            mode: permissions of Unix sockets.
            is_shared: with SO_REUSEPORT, so that a successor with several workers can bind sockets of its own.
        """
        self._wanted = wanted
        self._setting = setting
        self._mode = mode
        self._is_shared = is_shared
        self._servers: list[asyncio.AbstractServer] = []
        self._files: list[SocketFile] = []
        self.sockets = list(given)

    @property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """The bound addresses; valid once open."""
        return tuple(dict.fromkeys(map(address_of, self.sockets)))

    @property
    def of_one_process(self) -> list[socket.socket]:
        """Those that a successor with several workers has to bind again for each of them."""
        return [one for one in self.sockets if not is_unix(one)]

    @property
    def common(self) -> list[socket.socket]:
        """Those from which all processes of a successor accept."""
        return [one for one in self.sockets if is_unix(one)]

    async def open(self, passed: Sequence[socket.socket] = ()) -> None:
        """Bind every address of every host, if no sockets were given.

        `passed`: of a predecessor; those that are wanted are used in place of new ones, the others are closed.

        Raises:
            CannotListenError: an address is taken or not local; then none is bound.
        """
        if self.sockets:
            return
        left = list(passed)
        try:
            for address in self._wanted:
                await self._open(address, left)
        except CannotListenError:
            await self.stop()
            raise
        finally:
            close_all(left)

    async def _open(self, address: ListenAddress, passed: list[socket.socket]) -> None:
        if isinstance(address, UnixAddress):
            bound, file = await open_unix(address, self._setting, self._mode, passed)
            self.sockets.append(bound)
            self._files.append(file)
            return
        taken = await taken_from(address, passed, self._setting)
        self.sockets += taken or await bind_all(address, self._setting, is_shared=self._is_shared)

    async def serve(
        self, listener: web.Server, accept: Callable[[socket.socket], None] | None = None
    ) -> None:
        """Accept connections. `accept`: begins to on a TCP socket, in place of the event loop; it owns that copy.

        Raises:
            CannotListenError: another process listens there by now.
        """
        for bound in self.sockets:
            try:
                bound.listen(BACKLOG)  # uvloop would keep a failure to itself
                if accept is not None and not is_unix(bound):
                    accept(copy_of(bound))
                    continue
                self._servers.append(await _server(listener, copy_of(bound)))
            except OSError as error:
                raise cannot_listen(address_of(bound), self._setting, error) from error

    def keep_files(self) -> None:
        """Leave the files of Unix sockets where they are: a successor accepts there."""
        self._files.clear()

    async def stop(self) -> None:
        """Accept no more connections, and let go of the port."""
        files, self._files = self._files, []
        for file in files:
            await asyncio.to_thread(file.remove)
        for server in self._servers:
            server.close()
        self._servers.clear()
        close_all(self.sockets)
        self.sockets = []


async def _server(listener: web.Server, sock: socket.socket) -> asyncio.AbstractServer:
    """Accepts from this socket, which listens, and owns it."""
    loop: Any = asyncio.get_running_loop()
    create, options = loop.create_server, {}
    if is_unix(sock):  # its file is that of all processes; from Python 3.13 on the first would remove it
        create, options = loop.create_unix_server, {"cleanup_socket": False}
    server: asyncio.AbstractServer = await create(listener, sock=sock, backlog=BACKLOG, **options)
    return server


class Reservation:
    """A port that workers share: bound, but not listening, from `open` to `close`.

    The port stays reserved while all workers are replaced, and port 0 becomes the same port for all of them. Each
    worker has TCP sockets of its own, so that the kernel balances connections. They are made here, and open here too,
    so that they can be passed to a successor. From a Unix socket all workers accept.
    """

    def __init__(self, wanted: Sequence[ListenAddress], workers: int = 1, *, mode: int = SOCKET_MODE) -> None:
        """`mode`: permissions of Unix sockets."""
        self._wanted = wanted
        self._workers = workers
        self._mode = mode
        self._sockets: list[socket.socket] = []
        self._common: list[socket.socket] = []  # that exist once, for all workers
        self._files: list[SocketFile] = []
        self._left: dict[int, list[socket.socket]] = {}  # of a predecessor, by the worker that gets them
        self._of_workers: dict[int, list[socket.socket]] = {}
        self.addresses = tuple(wanted)  # with the bound ports, once open

    async def open(
        self, groups: Sequence[list[socket.socket]] = (), common: Sequence[socket.socket] = ()
    ) -> None:
        """Bind every address of every host.

        Of the sockets of a predecessor those that are wanted are used, the others are closed.

        Args:
            groups: of its workers.
            common: from which all of them accept.

        Raises:
            CannotListenError: an address is taken or not local, or the port cannot be shared.
        """
        passed, left = [list(group) for group in groups], list(common)
        try:
            self.addresses = tuple([await self._open(address, passed, left) for address in self._wanted])
        except CannotListenError:
            self.close()
            raise
        finally:
            for group in (*passed, left):
                close_all(group)

    async def _open(
        self, address: ListenAddress, passed: list[list[socket.socket]], common: list[socket.socket]
    ) -> ListenAddress:
        if isinstance(address, UnixAddress):
            bound, file = await open_unix(address, PUBLIC, self._mode, common)
            self._common.append(bound)
            self._files.append(file)
            return address
        taken = [await taken_from(address, group, PUBLIC) for group in passed]
        for at, group in enumerate(taken):
            if group:
                self._left.setdefault(at % self._workers + 1, []).extend(group)
        first: list[socket.socket] = next(filter(None, taken), [])
        try:
            own = [beside(bound) for bound in first]
        except OSError as error:
            raise cannot_listen(address, PUBLIC, error) from error
        own = own or await bind_all(address, PUBLIC, is_shared=True)
        self._sockets += own
        return Address(address.host, own[0].getsockname()[1])

    def use_common(self, sockets: list[socket.socket]) -> None:
        """In place of `open`: all workers accept from the same listening sockets of the service manager."""
        self._common = sockets
        self.addresses = tuple(dict.fromkeys(map(address_of, sockets)))

    def for_worker(self, number: int) -> list[socket.socket]:
        """The sockets of a new process of this worker, until `release`.

        Raises:
            OSError: the system has none.
        """
        own = self._left.pop(number, [])
        served = {one.getsockname() for one in own}
        own += [beside(bound) for bound in self._sockets if bound.getsockname() not in served]
        self._of_workers[number] = own
        return [*own, *self._common]

    def release(self, number: int) -> None:
        """Close the sockets of a worker that accepts no more connections: else the kernel would choose them still."""
        close_all(self._of_workers.pop(number, []))

    @property
    def is_used(self) -> bool:
        """Whether a worker may accept connections."""
        return bool(self._of_workers)

    def groups(self) -> list[list[socket.socket]]:
        """The sockets of each worker, to be passed on."""
        return list(self._of_workers.values())

    def common(self) -> list[socket.socket]:
        """The sockets of all workers, to be passed on."""
        return self._common

    def keep_files(self) -> None:
        """Leave the files of Unix sockets where they are: a successor accepts there."""
        self._files.clear()

    def close(self) -> None:
        for file in self._files:
            file.remove()
        for number in list(self._of_workers):
            self.release(number)
        for group in (self._sockets, self._common, *self._left.values()):
            close_all(group)
        self._sockets, self._common, self._left, self._files = [], [], {}, []
