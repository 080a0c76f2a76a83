"""How a host name becomes a connection: its addresses race (RFC 8305), so that one that swallows SYNs costs 250 ms.

Used for every connection that the gateway opens by itself; what aiohttp opens races by the same library.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from aiohappyeyeballs import start_connection

HEAD_START = 0.25  # seconds between two addresses; RFC 8305, 8

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]  # as getaddrinfo has it


async def look_up(host: str, port: int) -> list[AddressInfo]:
    """The addresses of a host name, in the order that the system prefers (RFC 6724); of an address itself.

    Raises:
        OSError: there is none, or no name server answers.
        UnicodeError: the name cannot be one.
    """
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [info for info in infos if info[0] in (socket.AF_INET, socket.AF_INET6)]


async def destination(host: str, port: int, tls: ssl.SSLContext | None) -> dict[str, Any]:
    """What `create_connection` and `open_connection` take to connect there: an address, or a socket that is connected.

    Raises:
        OSError, UnicodeError: there is no address, or all of several refused.
    """
    verified = {"ssl": tls, "server_hostname": host} if tls is not None else {}
    if is_address(host):
        return {"host": host, "port": port, **verified}
    infos = await look_up(host, port)
    if len(infos) == 1:
        return {"host": infos[0][4][0], "port": port, **verified}
    return {"sock": await race(infos), **verified}


async def race(infos: Sequence[AddressInfo]) -> socket.socket:
    """A socket that is connected to the address that answered first.

    Raises:
        OSError: none did.
    """
    if not infos:
        raise socket.gaierror(socket.EAI_NONAME, "no address")
    try:
        return await start_connection(infos, happy_eyeballs_delay=HEAD_START)
    except RuntimeError as error:  # uvloop's, of a socket that was closed meanwhile
        raise ConnectionAbortedError(str(error)) from error


def is_address(host: str) -> bool:
    """Whether this is an IP address, and no name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
