"""All hostile clients at once, in a process of their own: everything in the corpus, each in turn, in random order.

`python -m tests.hostile.hostile_clients HOST PORT SECONDS SEED SHARE`: at least one pass over this share of each kind, and
further ones until the time is over. Prints as JSON how often each status came, and what was no valid answer.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, partial
from time import monotonic

import httptools

from tests.harness.key_files import key
from tests.harness.raw_client import request
from tests.harness.surface import PREDICT, QUESTION
from tests.hostile.corpus import bodies, clients, fields, forms, replies, tokens
from tests.hostile.hostile_flowise import SETTINGS, flow_of

AT_ONCE = 24
LONGEST = 60  # seconds of one of them
SIGNED, GUARDED = "/api/v1/prediction/signed", "/api/v1/prediction/guarded"  # routes for JWTs and API keys
KEYS = {"right": key(1), "of a file that is refused": key(2), "of nobody": key(50_000), "broken": key(1)[:-1]}
REQUESTS = {**bodies.TABLE, **forms.TABLE, **fields.TABLE}


class Answer:
    """What comes back on a connection; httptools calls its `on_` method. The status is None before the first."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status: int | None = None
        self.is_complete = False

    def feed(self, data: bytes) -> None:
        """Raises HttpParserError: this is no HTTP."""
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        self.is_complete = self.status != 100


async def exchange(data: bytes, host: str, port: int) -> int | None:
    """Send these bytes, and read one answer, or to the end of the connection."""
    answer = Answer()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(data)
    try:
        with suppress(ConnectionError):
            while not answer.is_complete and (piece := await reader.read(1 << 18)):
                answer.feed(piece)
    finally:
        writer.transport.abort()
    return answer.status


@cache
def made(name: str) -> bytes:
    return REQUESTS[name].make()


def _request(name: str, host: str, port: int):
    return exchange(made(name), host, port)


def _asking(name: str) -> bytes:
    return request("POST", PREDICT, b'{"question":"reply %b","streaming":true}' % name.encode())


def _settings(number: int) -> bytes:
    return request("GET", f"/api/v1/public-chatbotConfig/{flow_of(number)}")


def _with_key(path: str, credential: str, host: str, port: int):
    return exchange(request("POST", path, QUESTION, Authorization=f"Bearer {credential}"), host, port)


@cache
def token(name: str) -> str:
    return tokens.TABLE[name].make()


def _with_token(name: str, host: str, port: int):
    return _with_key(SIGNED, token(name), host, port)


EVERYTHING = {
    **{f"request: {name}": partial(_request, name) for name in REQUESTS},
    **{f"reply: {name}": partial(exchange, _asking(name)) for name in replies.TABLE},
    **{f"settings: {number}": partial(exchange, _settings(number)) for number in range(len(SETTINGS))},
    **{f"token: {name}": partial(_with_token, name) for name in tokens.TABLE},
    **{f"key: {name}": partial(_with_key, GUARDED, one) for name, one in KEYS.items()},
    **{f"client: {name}": client for name, client in clients.TABLE.items()},
}


def kind_of(name: str) -> str:
    return name.partition(":")[0]


def some_of_each(names: Iterable[str], share: float, chance: random.Random) -> list[str]:
    """This share of each kind, rounded up, in random order."""
    by_kind: dict[str, list[str]] = {}
    for name in names:
        by_kind.setdefault(kind_of(name), []).append(name)
    found = [name for same in by_kind.values() for name in chance.sample(same, math.ceil(share * len(same)))]
    chance.shuffle(found)
    return found


async def attack(host: str, port: int, seconds: float, seed: int, share: float) -> dict[str, object]:
    """What came of it: the number of passes and of each status (`None`: closed without one), and what was invalid."""
    until, chance = monotonic() + seconds, random.Random(seed)
    statuses: Counter[str] = Counter()
    invalid: list[str] = []
    passes = 0

    async def one(name: str) -> None:
        try:
            async with asyncio.timeout(LONGEST):
                statuses[str(await EVERYTHING[name](host, port))] += 1
        except httptools.HttpParserError as error:
            invalid.append(f"{name}: {error}")
        except TimeoutError:
            invalid.append(f"{name}: no end after {LONGEST} s")
        except (ConnectionError, asyncio.IncompleteReadError):
            statuses["broken off"] += 1

    async def some(names) -> None:
        for name in names:
            await one(name)

    while passes == 0 or monotonic() < until:
        names = iter(some_of_each(EVERYTHING, share, chance))
        await asyncio.gather(*(some(names) for _ in range(AT_ONCE)))
        passes += 1
    return {"passes": passes, "statuses": dict(statuses), "invalid": invalid}


if __name__ == "__main__":
    os.nice(5)  # they stand for machines of their own
    host, port, seconds, seed, share = sys.argv[1:]
    print(json.dumps(asyncio.run(attack(host, int(port), float(seconds), int(seed), float(share)))))
