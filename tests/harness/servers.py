"""Several servers behind one upstream: which one has a conversation, and servers that are lost in every phase."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from gateway.upstream.balance import by_conversation
from tests.harness.gateway import RunningGateway
from tests.harness.raw_upstream import RawUpstream

_NUMBERS = itertools.count()


def named(name: str) -> RawUpstream:
    """A Flowise that answers every request with its name."""

    async def script(peer, _):
        peer.answer(b'{"text":"%b"}' % name.encode())

    return RawUpstream(script)


def servers(*urls: str, **main: Any) -> dict[str, Any]:
    """Sections of a configuration whose upstream has these servers, and these keys besides."""
    return {"upstreams": {"main": {"servers": [{"url": url} for url in urls], **main}}}


def chat_on(gateway: RunningGateway, url: str, upstream: str = "main") -> str:
    """A new conversation whose server is the one with this URL."""
    port = urlsplit(url).port
    while True:
        chat_id = f"chat-{next(_NUMBERS)}"
        if by_conversation(chat_id, gateway.servers(upstream)).place.port == port:
            return chat_id


@contextmanager
def swallowing(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """The port of a socket that takes no connection: its queue is full, so the system answers no SYN."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as full:
        full.bind((host, port))
        full.listen(0)
        crowd = []
        try:
            for _ in range(4):
                crowd.append(waiting := socket.socket(family))
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            yield full.getsockname()[1]
        finally:
            for waiting in crowd:
                waiting.close()


class Names:
    """What names stand for, in place of the name servers: addresses by name, in the order of preference.

    It stands where the event loop asks the system, so that everything that the gateway connects to by name asks here.
    """

    def __init__(self, monkeypatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._ask_system = self._loop.getaddrinfo
        self._known: dict[str, Sequence[str] | OSError] = {}
        self.asked: list[str] = []
        monkeypatch.setattr(self._loop, "getaddrinfo", self._getaddrinfo)

    def __setitem__(self, name: str, found: Sequence[str] | OSError) -> None:
        self._known[name] = found

    async def _getaddrinfo(self, host, port, **options):
        self.asked.append(host)
        found = self._known.get(host)
        if found is None:
            return await self._ask_system(host, port, **options)
        if isinstance(found, OSError):
            raise found
        infos = [await self._ask_system(address, port, **options) for address in found]
        return [info for each in infos for info in each]


NO_SUCH_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
