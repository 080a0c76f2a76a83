"""Counts the Python functions that a gateway calls for a streamed request: a number that no noise changes.

Flowise and the client are blocking sockets in threads of their own, so the thread of the loop runs nothing but the
gateway. Each event is sent when the client has read the one before, so that each is a read of its own. The gateway's
timers stand still: what they add to a request would be more on a busy machine, where it takes longer.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Semaphore
from types import FrameType

import gateway
from tests.harness.frames import END, METADATA, PATH, START, token
from tests.harness.gateway import RunningGateway
from tests.harness.raw_client import request
from tests.harness.raw_upstream import STREAM_HEAD, STREAMABLE

OWN = str(Path(gateway.__file__).parent)
TESTS = str(Path(__file__).parents[1])
WARM_UP, REPEATED = 10, 60
PASSES = 10  # of the loop; a request that has its last bytes ends in less
LAST = b"0\r\n\r\n"


@dataclass(frozen=True)
class Calls:
    """Calls of Python functions: of the gateway's own, and of all libraries too."""

    own: int
    all: int

    @classmethod
    def of(cls, counted: Counter[str]) -> Calls:
        """`counted`: by file name."""
        served = {file: number for file, number in counted.items() if not file.startswith(TESTS)}
        return cls(sum(served[file] for file in served if file.startswith(OWN)), sum(served.values()))


class PacedFlowise:
    """Answers on one connection; sends an event when the client says `seen`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = ThreadPoolExecutor()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.seen = Semaphore(0)
        self.tokens = 0

    def __enter__(self) -> PacedFlowise:
        self._threads.submit(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads.shutdown()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            self._threads.submit(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as reader:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while first := reader.readline():
                size = 0
                while (line := reader.readline().lower()) != b"\r\n":
                    size = int(line[15:]) if line.startswith(b"content-length:") else size
                reader.read(size)
                if b"/prediction/" in first:
                    self._stream(client)
                else:
                    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                    client.sendall(head % len(STREAMABLE) + STREAMABLE)

    def _stream(self, client: socket.socket) -> None:
        client.sendall(STREAM_HEAD + _chunk(START))
        for _ in range(self.tokens):
            self.seen.acquire()
            client.sendall(_chunk(token("a")))
        self.seen.acquire()
        client.sendall(_chunk(METADATA) + _chunk(END) + LAST)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def calls_of_a_request(
    server: RunningGateway, flowise: PacedFlowise, tokens: int, **fields: str
) -> Calls:
    """The calls of one request on a warm connection, with this number of tokens: the fewest of several."""
    server.stop_timers()
    loop = asyncio.get_running_loop()
    return await asyncio.to_thread(_fewest, loop, server, flowise, tokens, fields)


def _fewest(loop, server, flowise, tokens, fields) -> Calls:
    flowise.tokens = tokens
    counted: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            counted[frame.f_code.co_filename] += 1

    def on_loop(call: Callable[[], None]) -> None:
        """Make a call there after what is to be done now, and wait for it, without a call of a library's function."""
        done: SimpleQueue[None] = SimpleQueue()

        def make(passes: int = PASSES) -> None:
            if passes:
                loop.call_soon(make, passes - 1)
                return
            call()
            done.put(None)

        loop.call_soon_threadsafe(make)
        done.get()

    def begin() -> None:
        counted.clear()
        sys.setprofile(count)

    def end() -> None:
        sys.setprofile(None)

    found = []
    with socket.create_connection((server.host, server.port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(WARM_UP + REPEATED):
            body = b'{"question":"hi","streaming":true,"chatId":"chat-%d"}' % number
            on_loop(begin)
            client.sendall(request("POST", PATH, body, **fields))
            _read(client, flowise, 1 + tokens)
            on_loop(end)
            found.append(Calls.of(counted))
    warm = found[WARM_UP:]
    return Calls(min(calls.own for calls in warm), min(calls.all for calls in warm))


def _read(client: socket.socket, flowise: PacedFlowise, paced: int) -> None:
    """Read to the end of the stream, and tell Flowise of each paced event."""
    answer, said = b"", 0
    while not answer.endswith(LAST):
        piece = client.recv(65536)
        assert piece, answer
        answer += piece
        while said < min(answer.count(b"\n\n"), paced):
            said += 1
            flowise.seen.release()
