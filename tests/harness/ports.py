"""TCP ports of 127.0.0.1 for programs that bind them themselves, and ports on which nothing listens."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

# Below those that the system gives to outgoing connections and to port 0 (Linux from 32768, others from 49152). One of
# those may be taken again between its choice and its use.
_PORTS = range(12000, 32000)
_CHOICE = random.SystemRandom()  # not seeded: test processes that run side by side choose different ones
_given: set[int] = set()


def free_port() -> int:
    """A port that is not in use, and that the system gives to no other program; each time another one."""
    while True:
        port = _CHOICE.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


@contextmanager
def closed_port() -> Iterator[int]:
    """A port on which nothing listens; it stays bound, so that no other process gets it."""
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]
