"""Listening sockets: bound here, or passed by another process; and the port that several workers share.

The sockets of a port are kept beside those that the event loop owns, so that a successor can get them: as long as any
process has a listening socket open, the connections that wait in its queue are not lost.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence

from aiohttp import web

from gateway.command_errors import CannotRunError
from gateway.config import Address

BACKLOG = 4096
PUBLIC = "server.listen (--listen, GATEWAY_LISTEN)"
ADMIN = "admin.listen (--admin-listen, GATEWAY_ADMIN_LISTEN)"


class CannotListenError(CannotRunError):
    """An address is taken or not local; the message names it."""


class Port:
    """The sockets of one listener, from `open` to `stop`."""

    def __init__(
        self,
        wanted: Address,
        setting: str = PUBLIC,
        passed: Sequence[socket.socket] = (),
        *,
        is_shared: bool = False,
    ) -> None:
        """A port that is not open.

        Args:
            wanted: where to listen.
            setting: where the address is written, for the error.
            passed: listening sockets of another process, which are used in place of new ones.
            is_shared: with SO_REUSEPORT, so that a successor with several workers can bind sockets of its own.
        """
        self._wanted = wanted
        self._setting = setting
        self._is_shared = is_shared
        self._sites: list[web.SockSite] = []
        self.sockets = list(passed)

    @property
    def address(self) -> Address:
        """The bound address; valid once open."""
        host, port = self.sockets[0].getsockname()[:2]
        return Address(host, port)

    async def open(self) -> None:
        """Bind every address of the host, if no sockets were passed.

        Raises:
            CannotListenError: an address is taken or not local.
        """
        if not self.sockets:
            self.sockets = await bind_all(self._wanted, self._setting, is_shared=self._is_shared)

    async def serve(self, runner: web.BaseRunner) -> None:
        """Accept connections.

        Raises:
            CannotListenError: another process listens there by now.
        """
        for bound in self.sockets:
            site = web.SockSite(runner, _copy(bound), backlog=BACKLOG)
            try:
                await site.start()
            except OSError as error:
                raise _cannot_listen(self._wanted, self._setting, error) from error
            self._sites.append(site)

    async def stop(self) -> None:
        """Accept no more connections, and let go of the port."""
        for site in self._sites:
            await site.stop()
        self._sites.clear()
        close_all(self.sockets)
        self.sockets = []


class Reservation:
    """A port that workers share: bound, but not listening, from `open` to `close`.

    The port stays reserved while all workers are replaced, and port 0 becomes the same port for all of them. Each
    worker has sockets of its own, so that the kernel balances connections. They are made here, and open here too, so
    that they can be passed to a successor.
    """

    def __init__(self, wanted: Address, workers: int = 1) -> None:
        self._wanted = wanted
        self._workers = workers
        self._sockets: list[socket.socket] = []
        self._common: list[socket.socket] = []  # that the service manager keeps open, for all workers
        self._left: dict[int, list[socket.socket]] = {}  # of a predecessor, by the worker that gets them
        self._of_workers: dict[int, list[socket.socket]] = {}

    @property
    def address(self) -> Address:
        """The configured host and the bound port."""
        known = self._sockets or self._common
        port = known[0].getsockname()[1] if known else self._wanted.port
        return Address(self._wanted.host, port)

    async def open(self) -> None:
        """Bind every address of the host.

        Raises:
            CannotListenError: an address is taken or not local.
        """
        self._sockets = await bind_all(self._wanted, PUBLIC, is_shared=True)

    def use_common(self, sockets: list[socket.socket]) -> None:
        """In place of `open`: all workers accept from the same listening sockets."""
        self._common = sockets

    def use_groups(self, groups: Sequence[list[socket.socket]]) -> None:
        """In place of `open`: the first workers get the listening sockets of a predecessor's, all of them.

        Raises:
            CannotListenError: the port cannot be shared.
        """
        for at, group in enumerate(groups):
            self._left.setdefault(at % self._workers + 1, []).extend(group)
        try:
            self._sockets = [_bind_beside(bound) for bound in groups[0]]
        except OSError as error:
            raise _cannot_listen(self._wanted, PUBLIC, error) from error

    def for_worker(self, number: int) -> list[socket.socket]:
        """The sockets of a new process of this worker, until `release`.

        Raises:
            OSError: the system has none.
        """
        if self._common:
            self._of_workers[number] = []
            return self._common
        own = self._left.pop(number, None) or [_bind_beside(bound) for bound in self._sockets]
        self._of_workers[number] = own
        return own

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

    def close(self) -> None:
        for number in list(self._of_workers):
            self.release(number)
        for group in (self._sockets, self._common, *self._left.values()):
            close_all(group)
        self._sockets, self._common, self._left = [], [], {}


async def bind_all(address: Address, setting: str, *, is_shared: bool) -> list[socket.socket]:
    """A socket for every address of the host, all with the same port.

    Args:
        address: host and port.
        setting: where the address is written, for the error.
        is_shared: with SO_REUSEPORT; a port that another process has is refused all the same.

    Raises:
        CannotListenError: an address is taken or not local; then none is bound.
    """
    made: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    port = address.port
    try:
        found = await loop.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        families = [one for one in dict.fromkeys(found) if _has_family(one[0]) or len(found) == 1]
        for family, _, _, _, place in families:
            made.append(_bind_first(family, (place[0], port, *place[2:]), is_shared=is_shared))
            port = made[0].getsockname()[1]
    except OSError as error:
        close_all(made)
        raise _cannot_listen(address, setting, error) from error
    return made


def close_all(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _copy(bound: socket.socket) -> socket.socket:
    """Another descriptor of it. `socket.dup` would switch both to blocking, in every process that has it."""
    copy = socket.socket(fileno=os.dup(bound.fileno()))
    copy.setblocking(False)
    return copy


def _has_family(family: int) -> bool:
    """Whether this system has it: `localhost` also has an IPv6 address where there is no IPv6."""
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
    except OSError as error:
        return error.errno != errno.EAFNOSUPPORT
    return True


def _bind_first(family: int, place: tuple[str | int, ...], *, is_shared: bool) -> socket.socket:
    """Bind twice: SO_REUSEPORT alone would silently share the port with another process of the same user."""
    first = _bind(family, place, is_shared=False)
    if not is_shared:
        return first
    first.close()
    return _bind(family, place, is_shared=True)


def _bind_beside(bound: socket.socket) -> socket.socket:
    return _bind(bound.family, bound.getsockname(), is_shared=True)


def _bind(family: int, place: tuple[str | int, ...], *, is_shared: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(place)
    except OSError:
        bound.close()
        raise
    return bound


def _cannot_listen(address: Address, setting: str, error: OSError) -> CannotListenError:
    number = error.errno or 0  # uvloop rewords system errors; resolver errors are negative
    reason = os.strerror(number) if number > 0 else error.strerror
    return CannotListenError(
        f"Cannot listen on {address}: {reason}. Free this address, or write another one in {setting}."
    )
