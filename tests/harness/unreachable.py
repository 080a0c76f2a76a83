"""Servers that cannot be reached, each for one cause, on real sockets."""

from __future__ import annotations

import asyncio
import os
import resource
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from tests.harness.certificates import YEARS, Authority
from tests.harness.ports import closed_port

DAY = timedelta(days=1)
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Place:
    """Where the server would be. `ca`: the authority to trust; None: the server speaks no TLS."""

    host: str
    port: int
    ca: Path | None = None

    @property
    def url(self) -> str:
        return f"{'http' if self.ca is None else 'https'}://{self.host}:{self.port}"


# For each situation the label of metrics and the words of the log.
CAUSES = {
    "refused": ("refused", "connection refused"),
    "no such name": ("dns", "no such name"),
    "another name": ("tls_name", "certificate: hostname mismatch"),
    "another address": ("tls_name", "certificate: hostname mismatch"),
    "expired": ("tls_expired", "certificate expired"),
    "not valid yet": ("tls", "certificate not valid yet"),
    "another authority": ("tls_authority", "certificate: unknown authority"),
    "self-signed": ("tls_authority", "certificate: self-signed"),
    "another purpose": ("tls", "certificate: unsuitable certificate purpose"),
    "no tls": ("tls", "TLS: wrong version number"),
    "hangs up": ("reset", "connection reset"),
}


@asynccontextmanager
async def unreachable(situation: str, folder: Path) -> AsyncIterator[Place]:
    """A place with this situation of `CAUSES`."""
    if situation == "refused":
        with closed_port() as port:
            yield Place("127.0.0.1", port)
        return
    if situation == "no such name":
        yield Place("name.invalid", 80)  # RFC 6761: no resolver knows it
        return
    authority = Authority(folder)
    context, ca = _server(situation, authority, folder)
    async with serving(context, ca, _hang_up if situation == "hangs up" else _chat) as place:
        yield place


@asynccontextmanager
async def serving(
    context: ssl.SSLContext | None, ca: Path, script: Script | None = None
) -> AsyncIterator[Place]:
    """A server with this context; None: it speaks no TLS."""
    async with await asyncio.start_server(script or _chat, "127.0.0.1", 0, ssl=context) as server:
        yield Place("127.0.0.1", server.sockets[0].getsockname()[1], ca)


def _server(situation: str, authority: Authority, folder: Path) -> tuple[ssl.SSLContext | None, Path]:
    """The server's context, and the authority that the gateway trusts."""
    if situation == "another authority":
        other = folder / "other"
        other.mkdir()
        return authority.server(), Authority(other).ca
    contexts = {
        "another name": lambda: authority.server((x509.DNSName("elsewhere.example"),)),
        "another address": lambda: authority.server((x509.DNSName("localhost"),)),
        "expired": lambda: authority.server(valid=(-YEARS, -DAY)),
        "not valid yet": lambda: authority.server(valid=(DAY, YEARS)),
        "self-signed": authority.self_signed,
        "another purpose": authority.for_clients,
        "no tls": lambda: None,
        "hangs up": lambda: None,
    }
    return contexts[situation](), authority.ca


async def _chat(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def _hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Within the block the process can open no file and no socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
