"""An upstream that answers until it is told at which byte of the next request or of its reply to die."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Death:
    """After `read` bytes of the request and these bytes of a reply, by a FIN, or an RST if it is rude."""

    read: int
    sent: bytes = b""
    is_rude: bool = False


class DyingUpstream:
    """Without a `death` each request gets an empty 200. `begun`: what was read of the others, one for each connection."""

    def __init__(self) -> None:
        self.death: Death | None = None
        self.begun: list[bytes] = []
        self.last = b""  # the request that was answered last
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._listening.setblocking(False)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    async def __aenter__(self) -> DyingUpstream:
        self._start(self._accept())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listening.close()

    def _start(self, work) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            peer, _ = await loop.sock_accept(self._listening)
            peer.setblocking(False)
            self._start(self._serve(peer))

    async def _serve(self, peer: socket.socket) -> None:
        with peer:
            try:
                await self._answer(peer)
            except ConnectionError:
                return

    async def _answer(self, peer: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await _readable(peer)
            if self.death is not None and peer.recv(1, socket.MSG_PEEK):
                await self._die(peer, self.death)
                return
            read = await loop.sock_recv(peer, 65536)
            if not read:
                return
            self.last = read
            await loop.sock_sendall(peer, EMPTY)

    async def _die(self, peer: socket.socket, death: Death) -> None:
        loop = asyncio.get_running_loop()
        self.begun.append(b"")
        while missing := death.read - len(self.begun[-1]):
            self.begun[-1] += await loop.sock_recv(peer, missing)
        await loop.sock_sendall(peer, death.sent)
        if death.is_rude:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        peer.shutdown(socket.SHUT_WR)
        while await loop.sock_recv(peer, 65536):  # a close with unread bytes would be an RST
            pass


async def _readable(peer: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    is_readable = loop.create_future()
    loop.add_reader(peer, lambda: is_readable.done() or is_readable.set_result(None))
    try:
        await is_readable
    finally:
        loop.remove_reader(peer)
