"""How one listening socket is made: bound to an address, found among those that were passed, or copied."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from gateway.command_errors import CannotRunError
from gateway.config import Address, ListenAddress, UnixAddress
from gateway.server.socket_files import SocketFile, files_of, open_socket_file

Place = tuple[int, tuple[Any, ...]]  # family, and what `bind` takes

_FREE = "Free this address"
# by what the system says: what is wrong, and what would be right
_KNOWN_FAILURES = {
    errno.EEXIST: ("There is a file that is no socket", "Move it away"),
    errno.ENOENT: ("Its folder does not exist", "Create the folder"),
    errno.EADDRNOTAVAIL: ("This machine does not have the address", "Give the address to it"),
    errno.EACCES: ("Permission denied", "Give its user the right to it"),
}


class CannotListenError(CannotRunError):
    """An address is taken or not local; the message names it."""


def address_of(bound: socket.socket) -> ListenAddress:
    place = bound.getsockname()
    return UnixAddress(place) if is_unix(bound) else Address(place[0], place[1])


def is_unix(bound: socket.socket) -> bool:
    return bound.family == socket.AF_UNIX


async def open_unix(
    address: UnixAddress, setting: str, mode: int, passed: list[socket.socket]
) -> tuple[socket.socket, SocketFile]:
    """The socket of a path and its file: one of `passed`, from which it is then taken, else a new one.

    Raises:
        CannotListenError: it cannot be opened.
    """
    for bound in passed:
        if is_unix(bound) and bound.getsockname() == address.path and (found := files_of([bound])):
            passed.remove(bound)
            return bound, found[0]
    try:
        return await asyncio.to_thread(open_socket_file, address, mode)
    except OSError as error:
        raise cannot_listen(address, setting, error) from error


async def taken_from(address: Address, passed: list[socket.socket], setting: str) -> list[socket.socket]:
    """Those of `passed` that listen on this address; they are then taken from it.

    Raises:
        CannotListenError: the host name stands for no address.
    """
    if not passed:
        return []
    places = await _places(address, setting)
    found = [one for one in passed if (int(one.family), one.getsockname()) in places]
    for one in found:
        passed.remove(one)
    return found


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
    port = address.port
    places = await _places(address, setting)
    try:
        for family, place in places:
            made.append(_bind_first(family, (place[0], port, *place[2:]), is_shared=is_shared))
            port = made[0].getsockname()[1]
    except OSError as error:
        close_all(made)
        raise cannot_listen(address, setting, error) from error
    return made


async def _places(address: Address, setting: str) -> list[Place]:
    """Every address of the host.

    Raises:
        CannotListenError: there is none.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise cannot_listen(address, setting, error) from error
    families = [one for one in dict.fromkeys(found) if _has_family(one[0]) or len(found) == 1]
    return [(int(family), place) for family, _, _, _, place in families]


def close_all(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()


def copy_of(bound: socket.socket) -> socket.socket:
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


def beside(bound: socket.socket) -> socket.socket:
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


def cannot_listen(address: ListenAddress, setting: str, error: OSError) -> CannotListenError:
    number = error.errno or 0  # uvloop rewords system errors; resolver errors are negative
    reason = os.strerror(number) if number > 0 else error.strerror
    reason, remedy = _KNOWN_FAILURES.get(number, (reason, _FREE))
    return CannotListenError(
        f"Cannot listen on {address}: {reason}. {remedy}, or write another one in {setting}."
    )
