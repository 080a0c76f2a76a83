"""The benchmark's upstream, a process of its own: streams in Flowise's format at almost no CPU cost.

The question of a request has the plan of its stream as `key=value` words: `rate` (events per second, until the stream
is ended from outside), `count` (N events at once), `size` (N bytes as fast as the peer reads them). It does not
simulate Flowise: it has no failures, no other events and no limits.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from dataclasses import dataclass, field
from functools import partial

import httptools
import msgspec
import uvloop

from tests.bench import frames

_GOLDEN = 0.618034
_BULK_EVENT = 8192
_ABORT = "/api/v1/chatmessage/abort/"
_PREDICTION = "/api/v1/prediction/"


class _Prediction(msgspec.Struct):
    question: str = ""
    chatId: str = ""  # noqa: N815 - Flowise's spelling


class _Plan(msgspec.Struct):
    """The plan in a question; see the module's docstring."""

    rate: float = 0
    count: int = 0
    size: int = 0

    @classmethod
    def read(cls, question: str) -> _Plan:
        words = dict(word.split("=", 1) for word in question.split() if "=" in word)
        return msgspec.convert(words, cls, strict=False)


@dataclass
class Counters:
    """Counters, served by `GET /bench/stats`."""

    streams: dict[str, Stream] = field(default_factory=dict)
    opened: int = 0
    aborts: int = 0
    pauses: int = 0
    accepted_before: int = 0

    def stats(self) -> dict[str, int]:
        """The counters. `accepted`: bytes of bulk streams that the kernel has taken."""
        accepted = self.accepted_before + sum(stream.accepted for stream in self.streams.values())
        return {
            "opened": self.opened,
            "active": len(self.streams),
            "aborts": self.aborts,
            "pauses": self.pauses,
            "accepted": accepted,
        }


class Stream:
    """One response in progress on one connection."""

    def __init__(self, transport: asyncio.Transport, plan: _Plan, counters: Counters, chat_id: str) -> None:
        self._transport = transport
        self._plan = plan
        self._counters = counters
        self._chat_id = chat_id
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._sent = 0
        self._written = 0
        self.paused = False
        self.done = False
        self._bulk = frames.bulk_chunk(_BULK_EVENT) if plan.size else b""

    @property
    def accepted(self) -> int:
        """Bytes of a bulk stream that have left this process."""
        return self._written and max(0, self._written - self._transport.get_write_buffer_size())

    def start(self) -> None:
        """Send the head and start the plan."""
        self._counters.opened += 1
        self._counters.streams[self._chat_id] = self
        self._transport.write(frames.HEAD)
        if self._plan.size:
            self.pump()
        elif self._plan.rate:
            self._send_token()
            phase = (self._counters.opened * _GOLDEN) % 1 / self._plan.rate
            self._schedule(self._loop.time() + phase)
        else:
            stamp = time.monotonic_ns()
            tokens = [frames.token_chunk(number, stamp) for number in range(self._plan.count)]
            self.finish(b"".join(tokens))

    def pump(self) -> None:
        """Write a bulk stream for as long as the peer reads."""
        while self._plan.size and not self.paused and not self.done:
            self._transport.write(self._bulk)
            self._written += len(self._bulk)
            if self._written >= self._plan.size:
                self.finish()

    def _schedule(self, when: float) -> None:
        self._timer = self._loop.call_at(when, self._tick, when)

    def _tick(self, due: float) -> None:
        if not self.paused:
            self._send_token()
        self._schedule(due + 1 / self._plan.rate)

    def _send_token(self) -> None:
        self._transport.write(frames.token_chunk(self._sent, time.monotonic_ns()))
        self._sent += 1

    def finish(self, before: bytes = b"") -> None:
        """End the stream as Flowise does: metadata, end, last chunk."""
        if not self.done:
            self._transport.write(before + frames.END + frames.LAST_CHUNK)
            self.leave()

    def leave(self) -> None:
        """Drop the stream, whether it was finished or its connection was lost."""
        if self.done:
            return
        self._counters.accepted_before += self.accepted
        self.done = True
        if self._timer:
            self._timer.cancel()
        if self._counters.streams.get(self._chat_id) is self:
            del self._counters.streams[self._chat_id]


class Connection(asyncio.Protocol):
    """One keep-alive connection; httptools calls its `on_` methods."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._parser = httptools.HttpRequestParser(self)
        self._stream: Stream | None = None
        self._url = b""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # asyncio's own typing

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def pause_writing(self) -> None:
        self._counters.pauses += 1
        if self._stream:
            self._stream.paused = True

    def resume_writing(self) -> None:
        if self._stream:
            self._stream.paused = False
            self._stream.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stream:
            self._stream.leave()

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        path = self._url.decode()
        if path.startswith(_PREDICTION):
            prediction = msgspec.json.decode(self._body, type=_Prediction)
            chat_id = prediction.chatId or f"unnamed-{self._counters.opened}"
            self._stream = Stream(self._transport, _Plan.read(prediction.question), self._counters, chat_id)
            self._stream.start()
        else:
            self._answer(path)

    def _answer(self, path: str) -> None:
        counters = self._counters
        if path.startswith(_ABORT):
            counters.aborts += 1
            stream = counters.streams.get(path.rpartition("/")[2])
            if stream:
                stream.finish()
            answer: object = {"status": 200, "message": "Chat message aborted"}
        elif path == "/bench/finish":
            for stream in list(counters.streams.values()):
                stream.finish()
            answer = {}
        elif path == "/bench/stats":
            answer = counters.stats()
        else:
            answer = {"isStreaming": True}
        body = msgspec.json.encode(answer)
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
            b"Connection: keep-alive\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    counters = Counters()
    server = await loop.create_server(partial(Connection, counters), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    gc.disable()
    await stopped.wait()


if __name__ == "__main__":
    uvloop.run(_serve())
