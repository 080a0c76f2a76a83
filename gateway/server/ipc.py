"""What parent and worker say to each other, over the socket that is the worker's standard input.

First the briefing: the configuration as the parent has read it, so that all workers have the same one whatever
became of the file, and no secret stands in arguments or environment. Then words. When the socket closes, the other
side is dead.
"""

from __future__ import annotations

import pickle
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from gateway.auth.keys_model import KeyEntry
from gateway.config import Config

READY = b"ready\n"  # the worker listens
DRAIN = b"drain\n"  # begin to end
STOP = b"hurry\n"  # end now
_LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker must know.

    Attributes:
        worker: its number, from 1; one that replaces another has the same.
        config: what to serve; the port is never 0.
        folder: what all workers of this parent share.
        keys: of the keys file, as the parent last read it without a mistake; None: there is no keys file.
    """

    worker: int
    config: Config
    folder: Path
    keys: tuple[KeyEntry, ...] | None = None

    def packed(self) -> bytes:
        """As it is sent."""
        content = pickle.dumps(self)
        return _LENGTH.pack(len(content)) + content


def received(channel: socket.socket) -> WorkerConfig | None:
    """What the parent has sent; None if it died before."""
    length = _exactly(channel, _LENGTH.size)
    content = length and _exactly(channel, *_LENGTH.unpack(length))
    if not content:
        return None
    briefing: WorkerConfig = pickle.loads(content)  # noqa: S301 - from our own parent, over a socket without a name
    return briefing


def _exactly(channel: socket.socket, count: int) -> bytes:
    """So many bytes, none if it closed before."""
    content = b""
    while len(content) < count:
        more = channel.recv(count - len(content))
        if not more:
            return b""
        content += more
    return content
