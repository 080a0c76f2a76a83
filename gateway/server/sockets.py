"""Ports: opened, or refused with a sentence; one that several processes share is reserved by their parent."""

from __future__ import annotations

import asyncio
import os
import socket

from aiohttp import web

from gateway.config import Address
from gateway.errors import CannotRunError

BACKLOG = 4096


class CannotListenError(CannotRunError):
    """An address is taken or not ours; the message says which."""


async def open_site(runner: web.BaseRunner, address: Address, *, is_shared: bool = False) -> web.TCPSite:
    """Listen. `is_shared`: beside other processes of ours (SO_REUSEPORT), each gets its share of connections.

    Raises:
        CannotListenError: it cannot be listened on.
    """
    site = web.TCPSite(runner, address.host, address.port, backlog=BACKLOG, reuse_port=is_shared or None)
    try:
        await site.start()
    except OSError as error:
        raise _refused(address, error) from error
    return site


class Reservation:
    """A port that several processes of ours share, held without listening until `close`.

    So it stays ours while all of them are replaced, and port 0 is one port for all.
    """

    def __init__(self, wanted: Address) -> None:
        self._wanted = wanted
        self._held: list[socket.socket] = []

    @property
    def address(self) -> Address:
        """What to listen on: the host as it was given, and the port, chosen by the system if 0 was given."""
        return Address(self._wanted.host, self._held[0].getsockname()[1] if self._held else self._wanted.port)

    async def open(self) -> None:
        """Take it.

        Raises:
            CannotListenError: somebody listens there, or it is not ours.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                self._wanted.host, self._wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, _, _, _, place in dict.fromkeys(found):
                self._hold(family, (place[0], self.address.port, *place[2:]))
        except OSError as error:
            self.close()
            raise _refused(self._wanted, error) from error

    def close(self) -> None:
        """Give it up."""
        for held in self._held:
            held.close()
        self._held.clear()

    def _hold(self, family: int, place: tuple[str | int, ...]) -> None:
        """Bind twice: shared sockets would be silently shared with a stranger of the same user."""
        with _bound(family, place, is_shared=False):
            pass
        self._held.append(_bound(family, place, is_shared=True))


def _bound(family: int, place: tuple[str | int, ...], *, is_shared: bool) -> socket.socket:
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


def _refused(address: Address, error: OSError) -> CannotListenError:
    number = error.errno or 0  # uvloop wraps the words of these; a resolver's numbers are below 0
    reason = os.strerror(number) if number > 0 else error.strerror
    return CannotListenError(f"cannot listen on {address}: {reason}")
