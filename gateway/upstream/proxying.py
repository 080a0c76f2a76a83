"""Connections through an HTTP proxy: plain ones for requests in absolute form, tunnels for https (RFC 9110 9.3.6)."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from contextlib import ExitStack
from typing import Any

from gateway.causes import NO_DESCRIPTORS, ProxyError, cause_of
from gateway.config.proxies import Proxy
from gateway.connecting import look_up, race

LARGEST_ANSWER = 16 * 1024  # bytes
_READ = 4096
_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?![^ \r])")


async def through(proxy: Proxy, host: str, port: int, tls: ssl.SSLContext | None) -> dict[str, Any]:
    """What `create_connection` takes to connect to a server through a proxy.

    Without TLS the connection ends at the proxy, which takes the server from the target of each request: only that
    passes every proxy, as many tunnel to port 443 only.

    Raises:
        ProxyError: the proxy cannot be reached, or refuses.
        OSError: the system has no descriptor.
    """
    if tls is None:
        return {"sock": await connect_to(proxy)}
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return {"sock": await tunnel(proxy, place), "ssl": tls, "server_hostname": host}


async def connect_to(proxy: Proxy) -> socket.socket:
    """A socket that is connected to the proxy.

    Raises:
        ProxyError: it cannot be reached.
        OSError: the system has no descriptor.
    """
    try:
        return await race(await look_up(proxy.host, proxy.port))
    except (OSError, UnicodeError) as error:
        cause = cause_of(error)
        if cause is NO_DESCRIPTORS:
            raise
        raise ProxyError(cause.words) from error


async def tunnel(proxy: Proxy, place: str) -> socket.socket:
    """A socket whose bytes the proxy passes on to `place`, as HOST:PORT.

    Raises:
        ProxyError: the proxy cannot be reached, or refuses.
        OSError: the system has no descriptor.
    """
    connected = await connect_to(proxy)
    with ExitStack() as unless_it_works:
        unless_it_works.callback(connected.close)
        await _ask(connected, proxy, place)
        unless_it_works.pop_all()
    return connected


async def _ask(connected: socket.socket, proxy: Proxy, place: str) -> None:
    loop = asyncio.get_running_loop()
    fields = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    request = f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{fields}\r\n".encode()
    answer = b""
    try:
        await loop.sock_sendall(connected, request)
        while _END not in answer and len(answer) < LARGEST_ANSWER:
            more = await loop.sock_recv(connected, _READ)
            if not more:
                raise ProxyError("connection closed")
            answer += more
    except OSError as error:
        if isinstance(error, ProxyError):
            raise
        raise ProxyError(cause_of(error).words) from error
    head, end, rest = answer.partition(_END)
    found = _STATUS.match(head)
    if found is not None and end and not found[1].startswith(b"2"):  # mostly with a page behind it
        raise ProxyError(f"status {found[1].decode()}")
    if found is None or not end or rest:
        raise ProxyError("its answer is not valid")
