"""The CPU time of single iterations of the event loop, and a client in a thread that costs the loop nothing."""

from __future__ import annotations

import asyncio
import gc
import socket
from time import process_time, thread_time

from tests.harness import bounds
from tests.harness.raw_client import request

LAG = 0.05  # seconds of one loop iteration on an idle machine
LONGEST = LAG * bounds.SLOWNESS
LONGEST_WAIT = 2 * LAG * bounds.SLOWNESS


class LoopTurns:
    """Measures every iteration of the running loop.

    CPU time, so that other processes do not count.

    `longest`: seconds of the loop's own. `longest_wait`: with those of other threads, while one of them holds the
    interpreter. The loop is never idle meanwhile.
    """

    def __init__(self) -> None:
        self.longest = self.longest_wait = 0.0
        self._began = self._began_at = 0.0
        self._next: asyncio.Handle | None = None

    def __enter__(self) -> LoopTurns:
        gc.collect()
        self._began, self._began_at = thread_time(), process_time()
        self._next = asyncio.get_running_loop().call_soon(self._turn)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._next is not None
        self._next.cancel()

    def _turn(self) -> None:
        now, now_at = thread_time(), process_time()
        self.longest = max(self.longest, now - self._began)
        self.longest_wait = max(self.longest_wait, now_at - self._began_at)
        self._began, self._began_at = now, now_at
        self._next = asyncio.get_running_loop().call_soon(self._turn)


async def raw_answer(host: str, port: int, path: str, body: bytes, **headers: str) -> bytes:
    """Everything that comes back on a connection of its own, read in a thread."""

    def ask() -> bytes:
        with socket.create_connection((host, port), timeout=bounds.STEP) as sock:
            sock.sendall(request("POST", path, body, Connection="close", **headers))
            received = []
            while piece := sock.recv(1 << 20):
                received.append(piece)
            return b"".join(received)

    return await asyncio.to_thread(ask)


async def left_at_once(host: str, port: int, path: str, body: bytes, after: bytes) -> None:
    """Ask, read up to `after`, and leave."""

    def ask() -> None:
        with socket.create_connection((host, port), timeout=bounds.STEP) as sock:
            sock.sendall(request("POST", path, body))
            received = b""
            while after not in received:
                piece = sock.recv(1 << 16)
                assert piece
                received += piece

    await asyncio.to_thread(ask)
