"""Messages between the supervisor and a worker, over the socket that is the worker's standard input.

The supervisor first sends a `WorkerConfig` with the parsed configuration, so that all workers have the same one even if
the file has changed, and no secret appears in arguments or environment. After that both sides send the messages below,
one line each. A closed socket means that the other process is dead.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct

from msgspec import Struct

from gateway.auth.keys_model import ApiKey
from gateway.config import Config

READY = b"ready\n"  # from the worker: it accepts connections
CLOSING = b"closing\n"  # from the worker: it accepts no more connections
ALIVE = b"alive\n"  # from the worker, each second: its loop runs
DRAIN = b"drain\n"  # to the worker: start the drain
HAND_OVER = b"hand over\n"  # to the worker: start the drain at once, a successor accepts connections
STOP = b"stop\n"  # to the worker: end open requests now
# to the worker, each with a number behind it, which its answer repeats
PREPARE = b"prepare"  # a `Proposal` follows; nothing changes yet
COMMIT = b"commit"  # serve what is prepared
ABANDON = b"abandon"  # forget it; there is no answer
ANSWER = b"answer"  # from the worker: the number, and the reason if it cannot
# in both directions, with a number that the answer repeats: what follows is a question of the live page, or its answer
PAGE = b"page"
_LENGTH = struct.Struct("!I")


class WorkerConfig(Struct, frozen=True):
    """Everything a worker needs to start.

    Attributes:
        worker: number from 1; a replacement keeps the number.
        config: the parsed configuration; its port is never 0.
        line_lock: descriptor of the lock that all processes of one supervisor hold for a log line.
        sockets: descriptors of the sockets on which it listens.
        metrics: descriptor of the memory for its metrics; None: there is none, and they are not scraped.
        keys: entries of the last valid keys file; None if none is configured.
        has_colors: whether a terminal may get colours.
    """

    worker: int
    config: Config
    line_lock: int
    sockets: tuple[int, ...] = ()
    metrics: int | None = None
    keys: tuple[ApiKey, ...] | None = None
    has_colors: bool = False

    def encode(self) -> bytes:
        """Four bytes of length, big-endian, then a pickle."""
        content = pickle.dumps(self)
        return _LENGTH.pack(len(content)) + content


class Proposal(Struct, frozen=True):
    """Another configuration. `keys`: entries of its keys file, as of a `WorkerConfig`."""

    config: Config
    keys: tuple[ApiKey, ...] | None

    def encode(self, number: int) -> bytes:
        """The message, and what follows it."""
        content = pickle.dumps(self)
        return numbered(PREPARE, number) + _LENGTH.pack(len(content)) + content


def page_message(number: int, content: bytes) -> bytes:
    """A question of the live page, or its answer."""
    return numbered(PAGE, number) + _LENGTH.pack(len(content)) + content


async def read_content(reader: asyncio.StreamReader) -> bytes:
    """What follows a PAGE.

    Raises:
        IncompleteReadError: the other process died before it had sent all of it.
    """
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return await reader.readexactly(length)


async def read_proposal(reader: asyncio.StreamReader) -> Proposal:
    """What follows a PREPARE.

    Raises:
        IncompleteReadError: the supervisor died before it had sent all of it.
    """
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    proposal: Proposal = pickle.loads(await reader.readexactly(length))  # noqa: S301 - as in `receive`
    return proposal


def numbered(word: bytes, number: int, text: str = "") -> bytes:
    """A message with a number; of a text the first 1,000 characters."""
    line = " ".join(text[:1000].split())
    return b"%b %d %b\n" % (word, number, line.encode(errors="backslashreplace"))


def parse_numbered(message: bytes) -> tuple[bytes, int, str]:
    """Word, number and text; the number of a message without one is 0."""
    word, _, rest = message.rstrip(b"\n").partition(b" ")
    number, _, text = rest.partition(b" ")
    return word, int(number or 0), text.decode(errors="replace")


def receive(channel: socket.socket) -> WorkerConfig | None:
    """Read a `WorkerConfig`; None if the supervisor died before it had sent all of it."""
    length = _read_exactly(channel, _LENGTH.size)
    content = length and _read_exactly(channel, *_LENGTH.unpack(length))
    if not content:
        return None
    config: WorkerConfig = pickle.loads(content)  # noqa: S301 - from our own parent, over an unnamed socket
    return config


def _read_exactly(channel: socket.socket, count: int) -> bytes:
    """Read `count` bytes; returns none if the socket closes early."""
    content = b""
    while len(content) < count:
        more = channel.recv(count - len(content))
        if not more:
            return b""
        content += more
    return content
