"""Listening sockets, and the reservation of a port that several workers share."""

from __future__ import annotations

import asyncio
import os
import socket

from aiohttp import web

from gateway.config import Address
from gateway.errors import CannotRunError

BACKLOG = 4096
PUBLIC = "server.listen (--listen, GATEWAY_LISTEN)"
ADMIN = "admin.listen (--admin-listen, GATEWAY_ADMIN_LISTEN)"


class CannotListenError(CannotRunError):
    """An address is taken or not local; the message names it."""


async def open_site(
    runner: web.BaseRunner, address: Address, setting: str = PUBLIC, *, is_shared: bool = False
) -> web.TCPSite:
    """Listen on an address.

    Args:
        runner: what serves there.
        address: where.
        setting: where the address is written, for the error.
        is_shared: with SO_REUSEPORT, so that the kernel balances over the workers.

    Raises:
        CannotListenError: the address is taken or not local.
    """
    site = web.TCPSite(runner, address.host, address.port, backlog=BACKLOG, reuse_port=is_shared or None)
    try:
        await site.start()
    except OSError as error:
        raise _cannot_listen(address, setting, error) from error
    return site


class Reservation:
    """A port that workers share: bound, but not listening, from `open` to `close`.

    The port stays reserved while all workers are replaced, and port 0 becomes the same port for all of them.
    """

    def __init__(self, wanted: Address) -> None:
        self._wanted = wanted
        self._sockets: list[socket.socket] = []

    @property
    def address(self) -> Address:
        """The configured host and the bound port."""
        port = self._sockets[0].getsockname()[1] if self._sockets else self._wanted.port
        return Address(self._wanted.host, port)

    async def open(self) -> None:
        """Bind every address of the host.

        Raises:
            CannotListenError: an address is taken or not local.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                self._wanted.host, self._wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, _, _, _, place in dict.fromkeys(found):
                self._reserve(family, (place[0], self.address.port, *place[2:]))
        except OSError as error:
            self.close()
            raise _cannot_listen(self._wanted, PUBLIC, error) from error

    def close(self) -> None:
        for bound in self._sockets:
            bound.close()
        self._sockets.clear()

    def _reserve(self, family: int, place: tuple[str | int, ...]) -> None:
        """Bind twice: SO_REUSEPORT alone would silently share the port with another process of the same user."""
        with _bind(family, place, is_shared=False):
            pass
        self._sockets.append(_bind(family, place, is_shared=True))


def _bind(family: int, place: tuple[str | int, ...], *, is_shared: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
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
