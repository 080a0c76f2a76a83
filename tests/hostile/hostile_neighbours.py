"""What stands around a gateway beside clients and Flowise, in a process of its own: the keys file, an issuer, the limit store.

`python -m tests.hostile.hostile_neighbours FOLDER STORE`: STORE is the port of a real store. All are right at first; the
first line of output is JSON with the addresses. Each line of input begins an attack (`SEED SHARE`: in this order, this
share of each corpus) or, if it is empty, ends it, not before each of these keys files was read: then everything is
right again, and a line of output has the counts.

- The keys file gets the contents of the corpus in turn, each once the log says what became of the one before.
- The issuer publishes another document of the corpus at each fetch.
- In front of the store is a relay. A connection through it is right for `CALM` seconds; then a reply of the corpus
  comes in place of the store's, and nothing after it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from time import monotonic
from typing import TypeVar

from tests.harness.clock import time_passes
from tests.harness.jwt_tokens import http_answer, key_set
from tests.harness.key_files import entry, keys_text
from tests.hostile.besieged import LOG
from tests.hostile.corpus import key_sets, keys_files, store_replies
from tests.hostile.corpus.store_replies import HostileReply

T = TypeVar("T")
KEYS = "keys.yaml"
RIGHT_KEYS = keys_text(entry(1)).encode()
PIECE = 64 * 1024
CALM = 1.0  # seconds
SEEN_WITHIN = 20.0  # seconds for a keys file to be read
LOOK_EVERY = 0.05
REPLIES = {
    **store_replies.TABLE,
    **{
        f"unfinished: {name}": HostileReply(lambda text=text: [text], "timeout")
        for name, text in store_replies.UNFINISHED.items()
    },
    **{f"at login: {name}": case for name, case in store_replies.AT_LOGIN.items()},
}


def share_of(corpus: Mapping[str, T], share: float, seed: int) -> list[T]:
    """This share of a corpus, at random."""
    return random.Random(seed).sample(list(corpus.values()), max(1, round(share * len(corpus))))


class Issuer:
    """Publishes a key set."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self.hostile: Iterator[key_sets.HostileSet] | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            document = key_set(key_sets.RIGHT)
            if self.hostile is not None:
                document = next(self.hostile).make()
                self._counts["key sets"] += 1
            writer.write(http_answer(document))
            await writer.drain()
        writer.close()


class Store:
    """Relays between the gateway and the real store."""

    def __init__(self, port: int, counts: Counter[str]) -> None:
        self._port, self._counts = port, counts
        self.hostile: Iterator[HostileReply] | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stored, store = await asyncio.open_connection("127.0.0.1", self._port)
        asking = asyncio.ensure_future(_relay(reader, store))
        try:
            await self._answer(stored, writer)
            await asking  # a hostile reply is the last one; the gateway closes
        except ConnectionError:
            pass
        finally:
            asking.cancel()
            store.close()
            writer.close()

    async def _answer(self, stored: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        case = None if self.hostile is None else next(self.hostile)
        calm_until = monotonic() + (0 if case in store_replies.AT_LOGIN.values() else CALM)
        while data := await stored.read(PIECE):
            if case is None and self.hostile is not None:
                case = next(self.hostile)
            if case is not None and self.hostile is not None and monotonic() >= calm_until:
                self._counts["store replies"] += 1
                for piece in case.pieces():
                    writer.write(piece)
                    await writer.drain()
                return
            writer.write(data)
            await writer.drain()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    writer.close()


class KeysFile:
    """A file that is replaced as a whole."""

    def __init__(self, folder: Path, counts: Counter[str]) -> None:
        self._path, self._other, self._log = folder / KEYS, folder / "other.yaml", folder / LOG
        self._counts = counts
        self._seen = 0  # bytes of the log
        self.has_passed = asyncio.Event()  # each of the contents was there

    def write(self, content: bytes) -> None:
        self._other.write_bytes(content)
        self._other.chmod(0o600)
        self._other.replace(self._path)

    async def attack(self, contents: list[keys_files.HostileFile]) -> None:
        self.has_passed.clear()
        try:
            while True:
                for case in contents:
                    self._skip()
                    self.write(case.make())
                    await self._was_read()
                    self._counts["keys files"] += 1
                self.has_passed.set()
        finally:
            self._skip()
            self.write(RIGHT_KEYS)

    async def settle(self) -> None:
        """Wait until the right keys have been read."""
        await self._was_read()

    def _skip(self) -> None:
        self._seen = self._log.stat().st_size

    async def _was_read(self) -> None:
        until, read = monotonic() + SEEN_WITHIN, b""
        while monotonic() < until:
            with self._log.open("rb") as log:
                log.seek(self._seen)
                read = read[-20:] + log.read()
            self._seen = self._log.stat().st_size
            if b'"keys_loaded"' in read or b'"keys_file_broken"' in read:
                return
            await time_passes(LOOK_EVERY)


async def _main(folder: Path, store_port: int) -> None:
    os.nice(5)  # they stand for machines of their own
    counts: Counter[str] = Counter()
    issuer, store, keys = Issuer(counts), Store(store_port, counts), KeysFile(folder, counts)
    keys.write(RIGHT_KEYS)
    servers = [await asyncio.start_server(one.serve, "127.0.0.1", 0) for one in (issuer, store)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    _say({"jwks_url": f"http://127.0.0.1:{ports[0]}/jwks", "store": f"redis://127.0.0.1:{ports[1]}/0"})
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    attack: asyncio.Future[None] | None = None
    while order := await orders.readline():
        if words := order.split():
            seed, share = int(words[0]), float(words[1])
            issuer.hostile = cycle(share_of(key_sets.TABLE, share, seed))
            store.hostile = cycle(share_of(REPLIES, share, seed))
            attack = asyncio.ensure_future(keys.attack(share_of(keys_files.TABLE, share, seed)))
            continue
        if attack is not None:
            await keys.has_passed.wait()
        issuer.hostile = store.hostile = None
        if attack is not None:
            attack.cancel()
            await asyncio.wait([attack])
            await keys.settle()
        _say(dict(counts))
        counts.clear()


def _say(content: dict[str, object]) -> None:
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
