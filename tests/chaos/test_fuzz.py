"""Requests and replies of the corpus, changed at random, against a gateway in a process of its own.

`CHAOS_SECONDS`: how long in each direction, 180 by default. A failure prints its bytes and the seed of its batch.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from time import monotonic

import pytest
from hypothesis import HealthCheck, given, seed, settings

from tests.harness import bounds
from tests.harness.mutations import mutated
from tests.harness.raw_client import request
from tests.harness.surface import PREDICT
from tests.hostile.besieged import KIB, MIB, Besieged, besieged
from tests.hostile.corpus import replies
from tests.hostile.hostile_clients import REQUESTS, Answer
from tests.hostile.onslaught import sections
from tests.hostile.report import MOST_LAG_MS, MOST_WORK_MS

SECONDS = float(os.environ.get("CHAOS_SECONDS", "180"))
BATCH = 200  # examples with one seed
LONGEST = 64 * KIB  # bytes of an example
SILENCE = 0.1  # seconds after which an answer is not waited for: the request is incomplete
GROWTH = 64 * MIB
ASK = request("POST", PREDICT, b'{"question":"hi","streaming":true}')

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(SECONDS + 30 * bounds.TEST)]


class FuzzedFlowise:
    """Answers every request with `reply` and closes; in a thread."""

    def __init__(self) -> None:
        self.reply = replies.JSON_HEAD % 2 + b"{}"
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> FuzzedFlowise:
        Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            with client, suppress(OSError):
                client.settimeout(SILENCE)
                client.recv(1 << 20)
                client.sendall(self.reply)


class Oracle:
    """What must hold of the gateway after each example."""

    def __init__(self, gateway: Besieged) -> None:
        self._gateway = gateway
        self._read = 0
        self.examples = 0
        self.statuses: set[int | None] = set()

    def exchange(self, data: bytes) -> None:
        """Send a request: what comes back is HTTP, or nothing. Raises HttpParserError."""
        answer = Answer()
        with socket.create_connection((self._gateway.host, self._gateway.port)) as client:
            client.settimeout(SILENCE)
            with suppress(ConnectionError, TimeoutError):
                client.sendall(data)
                while not answer.is_complete and (piece := client.recv(1 << 18)):
                    answer.feed(piece)
        self.examples += 1
        self.statuses.add(answer.status)
        self.hold()

    def hold(self) -> None:
        """No line of the log says that something failed."""
        with self._gateway.log.open("rb") as log:
            log.seek(self._read)
            added = log.read()
        self._read += len(added)
        for word in (b'"event":"bug"', b'"outcome":"failed"', b'"event":"library"', b"Traceback"):
            assert word not in added, added[-2000:]


def batches(examples, check: Callable[[bytes], None], seconds: float) -> None:
    """Run batches of examples until the time is over."""
    until, number = monotonic() + seconds, 0
    while monotonic() < until:
        number += 1

        @seed(number)
        @settings(
            max_examples=BATCH,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        )
        @given(examples)
        def batch(data: bytes) -> None:
            check(data)

        batch()


async def fuzz(folder, examples, check_with) -> None:
    with FuzzedFlowise() as flowise:
        async with besieged(folder, flowise.url, **sections(flowise.url)) as gateway:
            oracle = Oracle(gateway)
            check = check_with(flowise, oracle)
            await asyncio.to_thread(batches, examples, check, SECONDS / 20)
            before = gateway.resident()
            await gateway.inside()
            await asyncio.to_thread(batches, examples, check, SECONDS)
            inside = await gateway.inside()
            assert inside["worst_work"] <= MOST_WORK_MS
            assert inside["worst_lag"] <= MOST_LAG_MS
            assert gateway.resident() - before < GROWTH
            assert await gateway.stop() == 0
            oracle.hold()
    print(
        f"{oracle.examples} examples, {sorted(oracle.statuses, key=str)}, work {inside['worst_work']} ms, lag {inside['worst_lag']} ms"
    )


async def test_changed_requests_are_answered_or_closed_and_nothing_fails(tmp_path):
    corpus = [data for data in (case.make() for case in REQUESTS.values()) if len(data) <= MIB]
    corpus = [data[:LONGEST] for data in corpus]
    await fuzz(tmp_path, mutated(corpus, LONGEST), lambda _, oracle: oracle.exchange)


async def test_changed_replies_are_passed_on_or_refused_and_nothing_fails(tmp_path):
    corpus = [data[:LONGEST] for data in replies.TABLE.values()]

    def check_with(flowise, oracle):
        def check(reply: bytes) -> None:
            flowise.reply = reply
            oracle.exchange(ASK)

        return check

    await fuzz(tmp_path, mutated(corpus, LONGEST), check_with)
