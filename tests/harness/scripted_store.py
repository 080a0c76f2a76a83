"""A limit store that answers as a Valkey does until it is to answer with something else; in a thread of its own."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PIECE = 64 * 1024
_COUNT = re.compile(rb"\*(\d+)\r\n")
_PLAIN = {b"PING": b"+PONG\r\n", b"TIME": b"*2\r\n$10\r\n1800000000\r\n$1\r\n0\r\n"}
ADMITTED = b"$3\r\n1 1\r\n"  # the reply to `admit` with one charge
NOTHING = b"$0\r\n\r\n"  # to any other script


class ScriptedStore:
    """One connection at a time is served. After a hostile reply nothing more is answered on it.

    Attributes:
        hostile: by command (the name, or of a script its act), the pieces that are sent in place of the reply.
        answered: how many replies were replaced.
        ended: set when the gateway has closed a connection on which a reply was replaced.
    """

    def __init__(self) -> None:
        self.hostile: dict[bytes, Iterator[bytes]] = {}
        self.answered = 0
        self.ended = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, name="scripted store")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._socket.getsockname()[1]}/0"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:  # `stop`
                return
            before = self.answered
            with client, suppress(ConnectionError):
                self._answer(client)
            if self.answered > before:
                self.ended.set()

    def _answer(self, client: socket.socket) -> None:
        reader = client.makefile("rb")
        while words := _command(reader):
            name = words[0].upper()
            if name == b"EVALSHA":
                name = words[3 + int(words[2])]
            if (pieces := self.hostile.pop(name, None)) is None:
                client.sendall(
                    _PLAIN.get(name) or (_of_script(name) if words[0] == b"EVALSHA" else b"+OK\r\n")
                )
                continue
            self.answered += 1
            for piece in pieces:
                client.sendall(piece)
            while client.recv(PIECE):
                pass


def _of_script(act: bytes) -> bytes:
    return ADMITTED if act == b"admit" else NOTHING


def _command(reader) -> list[bytes]:
    """The words of the next command; none at the end."""
    head = _COUNT.fullmatch(reader.readline())
    if head is None:
        return []
    words = []
    for _ in range(int(head[1])):
        size = int(reader.readline()[1:])
        words.append(reader.read(size + 2)[:-2])
    return words


@contextmanager
def scripted_store():
    """`with scripted_store() as store:`"""
    store = ScriptedStore()
    store.start()
    try:
        yield store
    finally:
        store.stop()
