"""The benchmark's load generator, a process of its own: runs one job, prints its figures as JSON.

The latency of an event is the time at which its bytes are read minus the stamp of the upstream in it. Events are
counted: a missing event or one out of order fails the measurement.
"""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import statistics
import sys
import time
from array import array
from collections.abc import Awaitable, Callable

import httptools
import msgspec
import uvloop

from tests.bench import jobs, procfs
from tests.bench.frames import StampReader
from tests.bench.jobs import Figures, Job

FLOW = "3f6a9b1c-2222-4333-8444-555566667777"
_OPEN_AT_ONCE = 50
_TIMEOUT_S = 20
_QUIET_RATE = 0.5
_SETTLE_S = 0.5
_WARM_UP = 3


class LoadError(Exception):
    """The target lost an event or gave a wrong response."""


class Tally:
    """The events of a job: their number, and the latencies (ns) of those in the measured window."""

    def __init__(self) -> None:
        self.events = 0
        self.recording = False
        self.delays = array("q")


class Client(asyncio.Protocol):
    """One keep-alive connection with one prediction at a time; httptools calls its `on_` methods."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._loop = asyncio.get_running_loop()
        self._idle()

    def _idle(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._stamps = StampReader()
        self.events = 0
        self._now = 0
        self._fault: LoadError | None = None
        self.first_event: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def send(self, request: bytes) -> None:
        """Send a request; `first_event` and `ended` resolve as its response comes in."""
        self._idle()
        self._transport.write(request)

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # asyncio's own typing

    def data_received(self, data: bytes) -> None:
        self._now = time.monotonic_ns()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fault = self._fault or LoadError(f"unreadable response: {error}")
        if self._fault:
            self._fail(self._fault)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            self._fault = LoadError(f"status {status} instead of 200")

    def on_body(self, body: bytes) -> None:
        tally = self._tally
        for number, stamp in self._stamps.feed(body):
            if number != self.events:
                self._fault = LoadError(f"event {number} came where event {self.events} was due")
            self.events = number + 1
            tally.events += 1
            if tally.recording:
                tally.delays.append(self._now - stamp)
        if self.events and not self.first_event.done():
            self.first_event.set_result(None)

    def on_message_complete(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(LoadError(f"connection lost: {exc or 'closed by the target'}"))

    def _fail(self, error: LoadError) -> None:
        for future in (self.first_event, self.ended):
            if not future.done():
                future.set_exception(error)
                future.exception()


def prediction(chat_id: str, plan: str, authorization: str = "") -> bytes:
    """Render the request for one streamed prediction."""
    credential = b"Authorization: %b\r\n" % authorization.encode() if authorization else b""
    body = b'{"question":"bench %b","streaming":true,"chatId":"%b"}' % (plan.encode(), chat_id.encode())
    return (
        b"POST /api/v1/prediction/%b HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: */*\r\n"
        b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (FLOW.encode(), credential, len(body), body)
    )


class Crowd:
    """The clients of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._sent = 0
        self._tls = ssl.create_default_context(cafile=job.ca) if job.ca else None
        self.tally = Tally()
        self.clients: list[Client] = []

    def next_request(self, plan: str) -> bytes:
        """Render a prediction in a conversation of its own."""
        self._sent += 1
        return prediction(f"bench-{os.getpid()}-{self._sent}", plan, self.job.authorization)

    async def connect(self, count: int) -> list[Client]:
        """Open `count` more connections."""
        loop = asyncio.get_running_loop()
        made = []
        for _ in range(count):
            _, client = await loop.create_connection(
                lambda: Client(self.tally), "127.0.0.1", self.job.port, ssl=self._tls
            )
            made.append(client)
        self.clients += made
        return made

    async def open_streams(self, count: int, rate: float) -> None:
        """Open `count` more paced streams and wait for the first event of each."""
        while count > 0:
            batch = await self.connect(min(count, _OPEN_AT_ONCE))
            for client in batch:
                client.send(self.next_request(f"rate={rate}"))
            await _all([client.first_event for client in batch], "the first events")
            count -= len(batch)

    async def end_streams(self) -> None:
        """Have the upstream end all streams and see each of them end cleanly."""
        _, client = await asyncio.get_running_loop().create_connection(
            lambda: Client(Tally()), "127.0.0.1", self.job.upstream_port
        )
        client.send(b"POST /bench/finish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")
        await _all([client.ended, *(one.ended for one in self.clients)], "the end of all streams")
        client.close()
        for one in self.clients:
            one.close()


async def _all(futures: list[asyncio.Future[None]], what: str) -> None:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await asyncio.gather(*futures)
    except TimeoutError as error:
        missing = sum(not future.done() or future.cancelled() for future in futures)
        raise LoadError(
            f"{missing} of {len(futures)} missing after {_TIMEOUT_S} s while waiting for {what}"
        ) from error


async def measure_streams(job: Job) -> Figures:
    """Read CPU per event and latency in a window in which all streams are open."""
    crowd = Crowd(job)
    await crowd.open_streams(job.streams, job.rate)
    await asyncio.sleep(_SETTLE_S)
    tree = procfs.process_tree(job.watch) if job.watch else []
    tally = crowd.tally
    tally.recording = True
    events, cpu, began = tally.events, procfs.cpu_ns(tree), time.monotonic()
    await asyncio.sleep(job.seconds)
    cpu, events, took = procfs.cpu_ns(tree) - cpu, tally.events - events, time.monotonic() - began
    tally.recording = False
    await crowd.end_streams()
    if not events:
        raise LoadError("no event came in the measured window")
    figures = {jobs.EVENT_RATE: events / took}
    figures[jobs.LATENCY_P50], figures[jobs.LATENCY_P99] = _percentiles_ms(tally.delays)
    return figures | ({jobs.CPU_EVENT: cpu / events / 1000} if tree else {})


async def measure_growth(job: Job) -> Figures:
    """Read CPU per event with this number of open streams."""
    return {jobs.growth_figure(job.streams): (await measure_streams(job))[jobs.CPU_EVENT]}


async def measure_requests(job: Job) -> Figures:
    """Read CPU and time of short requests."""
    times, took, cpu = await _short_streams(job)
    figures = {jobs.REQUEST_RATE: len(times) / took}
    figures[jobs.REQUEST_P50], figures[jobs.REQUEST_P99] = _percentiles_ms(times)
    return figures | ({jobs.CPU_REQUEST: cpu / len(times) / 1000} if cpu else {})


async def measure_short(job: Job) -> Figures:
    """Read how many short streams there are in a second, and in a second of CPU time."""
    times, took, cpu = await _short_streams(job)
    figures = {jobs.SHORT_RATE: len(times) / took}
    if cpu:
        figures |= {jobs.CPU_SHORT: cpu / len(times) / 1000, jobs.SHORT_CORE: len(times) / cpu * 1e9}
    return figures


async def measure_first(job: Job) -> Figures:
    """Read the time from the request to the first event, of one request at a time."""
    crowd = Crowd(job)
    (client,) = await crowd.connect(1)
    times = array("q")
    for number in range(_WARM_UP + job.requests):
        began = time.monotonic_ns()
        client.send(crowd.next_request(f"count={job.tokens}"))
        await _all([client.first_event], "the first event")
        if number >= _WARM_UP:
            times.append(time.monotonic_ns() - began)
        await _all([client.ended], "the end of a short stream")
    client.close()
    figures: Figures = {}
    figures[jobs.FIRST_P50], figures[jobs.FIRST_P99] = _percentiles_ms(times)
    return figures


async def _short_streams(job: Job) -> tuple[array[int], float, int]:
    """Request short streams, one after the other on each of several keep-alive connections.

    Returns their times in ns, the seconds that all took, and the CPU time of the target in ns.
    """
    crowd = Crowd(job)
    clients = await crowd.connect(job.concurrency)
    times = array("q")
    await asyncio.gather(*(_request_many(crowd, client, _WARM_UP, times) for client in clients))
    times = array("q")
    tree = procfs.process_tree(job.watch) if job.watch else []
    each = max(1, job.requests // job.concurrency)
    cpu, began = procfs.cpu_ns(tree), time.monotonic()
    await asyncio.gather(*(_request_many(crowd, client, each, times) for client in clients))
    cpu, took = procfs.cpu_ns(tree) - cpu, time.monotonic() - began
    for client in clients:
        client.close()
    return times, took, cpu


async def _request_many(crowd: Crowd, client: Client, count: int, times: array[int]) -> None:
    tokens = crowd.job.tokens
    for _ in range(count):
        began = time.monotonic_ns()
        client.send(crowd.next_request(f"count={tokens}"))
        await _all([client.ended], "the end of a short stream")
        if client.events != tokens:
            raise LoadError(f"a short stream brought {client.events} token events instead of {tokens}")
        times.append(time.monotonic_ns() - began)


async def measure_memory(job: Job) -> Figures:
    """Read the memory per open, quiet stream, compared to the idle process after a few requests."""
    await measure_requests(msgspec.structs.replace(job, watch=0, requests=3 * job.concurrency))
    await asyncio.sleep(_SETTLE_S)
    tree = procfs.process_tree(job.watch)
    before = procfs.memory(tree)
    crowd = Crowd(job)
    figures: Figures = {jobs.IDLE_MB: before.rss / 1e6}
    for level in job.levels:
        await crowd.open_streams(level - len(crowd.clients), _QUIET_RATE)
        await asyncio.sleep(2 * _SETTLE_S)
        per_stream = procfs.memory(tree).per(before, level)
        figures[jobs.rss_figure(level)], figures[jobs.pss_figure(level)] = per_stream
    await crowd.end_streams()
    return figures


def _percentiles_ms(nanoseconds: array[int]) -> tuple[float, float]:
    """Return the median and the 99th percentile in milliseconds."""
    cuts = statistics.quantiles(nanoseconds, n=100, method="inclusive")
    return cuts[49] / 1e6, cuts[98] / 1e6


_KINDS: dict[str, Callable[[Job], Awaitable[Figures]]] = {
    "streams": measure_streams,
    "requests": measure_requests,
    "short": measure_short,
    "first": measure_first,
    "growth": measure_growth,
    "memory": measure_memory,
}


async def _run(job: Job) -> Figures:
    gc.disable()
    return await _KINDS[job.kind](job)


def main() -> int:
    """Run the job given as JSON in the first argument."""
    job = msgspec.json.decode(sys.argv[1], type=Job)
    try:
        figures = uvloop.run(_run(job))
    except (LoadError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
