"""Well-behaved clients: long streams and short ones, of which every event is counted and timed.

They have an address of their own, as other people have. Beside those through the gateway some streams come directly from
the same Flowise (`tests/bench/upstream.py`): how late those are is the machine's doing.
"""

from __future__ import annotations

import asyncio
from array import array
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic_ns

from tests.bench.load import Client, Tally
from tests.harness.loop_record import Looks, Spread
from tests.harness.raw_client import request

ADDRESS = "127.0.0.2"
SHORT = 31  # events of a short stream
BEFORE_THE_END = 2  # `metadata` and `end`, which carry no stamp
CHARACTERS, PER_TOKEN = 34, 4  # of an event's text, and of an estimated token
NOTABLE = 50_000_000  # nanoseconds of a delay of which the time is remembered


@dataclass(frozen=True, slots=True)
class Late:
    """An event that was read late; both in nanoseconds, `at` of the monotonic clock."""

    at: int
    delay: int

    def own(self, gateway: Looks, client: Looks) -> float:
        """Milliseconds of the delay that neither the machine nor the client's loop explains."""
        sent = self.at - self.delay
        explained = gateway.of_machine(sent, self.at) + client.late(sent, self.at)
        return max(0.0, self.delay / 1e6 - explained)


class Delays:
    """In the place of the array of a `Tally`; remembers when the long ones were."""

    def __init__(self) -> None:
        self.all = array("q")
        self.late: list[Late] = []

    def append(self, delay: int) -> None:
        self.all.append(delay)
        if delay > NOTABLE:
            self.late.append(Late(monotonic_ns(), delay))


class WellBehaved:
    """Clients of one server; `path` is that of predictions."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path
        self._number = 0
        self._open: list[Client] = []
        self.tally = Tally()
        self.tally.recording = True
        self._delays = Delays()
        self.tally.delays = self._delays  # type: ignore[assignment]  # only `append` is called
        self.streams = 0
        self.tokens = 0  # of the streams that have ended, as they are estimated
        self.slowest = 0.0  # seconds of a short stream

    async def open(self, count: int, rate: float) -> None:
        """Open streams of `rate` events a second, that end with `ended`."""
        for _ in range(count):
            self._open.append(await self._ask(f"rate={rate}"))
        await asyncio.gather(*(client.first_event for client in self._open))

    async def ask_on(self) -> None:
        """Ask for short streams on one connection, one after the other, until cancelled."""
        client = await self._connected()
        loop = asyncio.get_running_loop()
        with suppress(asyncio.CancelledError):
            while True:
                began = loop.time()
                client.send(self._request(f"count={SHORT}"))
                await asyncio.shield(client.ended)  # the last one is read to its end all the same
                self.slowest = max(self.slowest, loop.time() - began)
                self._count(client)
        await client.ended
        self._count(client)
        client.close()

    async def ended(self) -> None:
        """Wait until every stream has ended well. Raises LoadError: one was cut."""
        await asyncio.gather(*(client.ended for client in self._open))
        for client in self._open:
            self._count(client)
            client.close()

    def _count(self, client: Client) -> None:
        self.tokens += -(-client.events * CHARACTERS // PER_TOKEN)

    @property
    def spread(self) -> Spread:
        """How late the events were, in milliseconds."""
        return Spread.of(delay / 1e6 for delay in self._delays.all)

    @property
    def late(self) -> list[Late]:
        return self._delays.late

    async def _ask(self, plan: str) -> Client:
        client = await self._connected()
        client.send(self._request(plan))
        return client

    async def _connected(self) -> Client:
        _, client = await asyncio.get_running_loop().create_connection(
            lambda: Client(self.tally), "127.0.0.1", self._port, local_addr=(ADDRESS, 0)
        )
        return client

    def _request(self, plan: str) -> bytes:
        self.streams += 1
        body = b'{"question":"%b","streaming":true,"chatId":"well-%d-%d"}'
        return request("POST", self._path, body % (plan.encode(), id(self), self.streams))
