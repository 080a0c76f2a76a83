"""The state of all processes, once a second while there is a viewer, as messages for viewers.

A viewer gets a whole state first, then what has changed. One that takes its messages late gets a whole state again, so
that nothing waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from time import monotonic, time
from typing import Any, Protocol

import msgspec

from gateway import __version__
from gateway.aio import Tasks, WorkThread
from gateway.page.history import SLOT, SLOTS, History
from gateway.page.sample import MOST_LINES
from gateway.page.tables import (
    NOTHING,
    Numbered,
    Tables,
    caller_table,
    changes,
    run_table,
    server_table,
    split_key,
    store_row,
)
from gateway.telemetry.logs import Logger
from gateway.telemetry.request_counts import Counts

MOST_VIEWERS = 10
MOST_ROUTES = 100  # with a row of their own, those with most requests in the hour
INTERVAL = 1.0  # seconds
AFTER_SLOT = 0.1  # seconds


class Observed(Protocol):
    """The processes of this gateway."""

    async def samples(self) -> Sequence[Numbered]:
        """Of those that answer in time; each line of the log once."""

    def counts(self) -> Counts:
        """The totals of all processes; called in a thread."""

    def processes(self) -> Mapping[str, Mapping[str, Any]]:
        """A row for each process by its name; called in a thread."""

    def reload(self) -> Mapping[str, Any]:
        """What became of the last reload."""

    async def end(self, worker: str, key: str, operator: str) -> bool:
        """End a run for the operator at this address; returns whether there is one."""


class TooManyViewersError(Exception):
    """There are `MOST_VIEWERS` already."""


class Feed:
    """From `open`, or its first viewer, to `close`.

    Attributes:
        is_on: whether there is a page; counters are looked at only then.
    """

    def __init__(self, observed: Observed, logger: Logger, *, is_on: bool = True) -> None:
        self.is_on = is_on
        self._observed = observed
        self._tasks = Tasks(lambda error: logger.error("bug", error=repr(error), exc_info=error))
        self._thread = WorkThread("page", 4)
        self._history = History()
        self._timer: asyncio.TimerHandle | None = None
        self._lines: deque[tuple[str, dict[str, Any]]] = deque(maxlen=MOST_LINES)
        self._line_count = 0
        self._viewers = 0
        self._is_running = False
        self._closing = asyncio.Event()
        self._published = asyncio.Event()
        self._version = 0
        self._tables: Tables = NOTHING
        self._change = ""
        self._whole: tuple[int, str] = (0, "")

    @property
    def viewers(self) -> int:
        return self._viewers

    def use(self, *, is_on: bool) -> None:
        """Follow a new configuration. A page that was off until now begins with an empty hour."""
        if is_on and not self.is_on:
            self._history = History(is_from_start=False)
        self.is_on = is_on

    def open(self) -> None:
        """Look at the counters whenever a slot ends, from now on."""
        seconds = SLOT - time() % SLOT + AFTER_SLOT
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_slot_end)

    def _on_slot_end(self) -> None:
        self.open()
        self.look()

    def look(self) -> None:
        """Count what came for the slot that has ended; with a viewer that is done all the time."""
        if self.is_on and not self._is_running and not self._closing.is_set():
            self._tasks.start(self._look(int(time() // SLOT)), "page history")

    async def _look(self, slot: int) -> None:
        counts = await self._thread.run(self._observed.counts)
        self._history.take(slot * SLOT - 0.001, counts)

    async def close(self) -> None:
        """End every viewer's messages."""
        if self._timer is not None:
            self._timer.cancel()
        self._closing.set()
        self._wake()
        await self._tasks.join(INTERVAL)
        await self._thread.close()

    async def end(self, key: str, operator: str) -> bool:
        """End the run of this row; returns whether there is one. `operator`: the address of the person."""
        return await self._observed.end(*split_key(key), operator)

    # -- viewers -----------------------------------------------------------------------------------

    def join(self) -> AsyncIterator[str]:
        """The messages of a new viewer, which counts until the iterator is closed.

        Raises:
            TooManyViewersError: there are as many as there may be.
        """
        if self._viewers >= MOST_VIEWERS:
            raise TooManyViewersError
        self._viewers += 1
        if not self._is_running:
            self._is_running = True
            self._tasks.start(self._run(), "page")
        return self._messages()

    def leave(self) -> None:
        """A viewer that has joined is gone."""
        self._viewers -= 1

    async def _messages(self) -> AsyncIterator[str]:
        seen = 0
        while True:
            while not self._has_more(seen) and self._is_running and not self._closing.is_set():
                await self._published.wait()
            if not self._has_more(seen) or self._closing.is_set():
                return
            text = self._change if seen and seen == self._version - 1 else self._whole_state()
            seen = self._version
            yield text

    def _has_more(self, seen: int) -> bool:
        """Whether there is a state after this version; none is kept while nobody looks."""
        return self._tables is not NOTHING and self._version != seen

    def _whole_state(self) -> str:
        if self._whole[0] != self._version:
            self._whole = self._version, _encoded(changes(NOTHING, self._tables), is_whole=True)
        return self._whole[1]

    # -- the state ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Publish a state each second until nobody looks."""
        try:
            while self._viewers and self.is_on and not self._closing.is_set():
                began = monotonic()
                await self._publish()
                await self._pause(began + INTERVAL - monotonic())
        finally:
            self._is_running = False
            self._tables, self._whole = NOTHING, (0, "")
            self._wake()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._closing.wait()
        except TimeoutError:
            return

    async def _publish(self) -> None:
        samples = await self._observed.samples()
        counts, processes = await self._thread.run(self._facts)
        self._history.take(time(), counts)
        self._keep_lines(samples)
        tables = self._state(samples, processes)
        self._change = _encoded(changes(self._tables, tables), is_whole=False)
        self._tables = tables
        self._version += 1
        self._wake()

    def _facts(self) -> tuple[Counts, Mapping[str, Mapping[str, Any]]]:
        return self._observed.counts(), self._observed.processes()

    def _wake(self) -> None:
        published, self._published = self._published, asyncio.Event()
        published.set()

    def _keep_lines(self, samples: Sequence[Numbered]) -> None:
        new = [(line.ended, one.worker, line.line) for one in samples for line in one.sample.lines]
        for ended, worker, line in sorted(new, key=lambda one: one[0]):
            self._line_count += 1
            of_worker = {"worker": int(worker)} if worker else {}
            self._lines.append((str(self._line_count), {"ended": round(ended, 3), **of_worker, **line}))

    def _state(self, samples: Sequence[Numbered], processes: Mapping[str, Any]) -> Tables:
        rates, hour = self._history.rates(), self._history.routes()
        rates[""] = sum(rates.values())
        ranked = sorted(hour.items(), key=lambda item: -sum(item[1].outcomes.values()))
        routes = {
            name: {**found._asdict(), "per_second": round(rates.get(name, 0.0), 2)}
            for name, found in ranked[: MOST_ROUTES + 1]
        }
        return {
            "gateway": {
                "": {
                    "version": __version__,
                    "open_runs": sum(one.sample.open_runs for one in samples),
                    "waiting": sum(one.sample.waiting for one in samples),
                    "callers": max((one.sample.callers_known for one in samples), default=0),
                    "routes": max(len(hour) - 1, 0),
                    "per_second": round(rates[""], 2),
                    "viewers": self._viewers,
                    "slot_s": SLOT,
                    "slots": SLOTS,
                }
            },
            "runs": run_table(samples),
            "routes": routes,
            "hour": {str(number): row for number, row in self._history.slots()},
            "callers": caller_table(samples),
            "servers": server_table(samples),
            "processes": processes,
            "store": {"": store_row(samples)},
            "reload": {"": self._observed.reload()},
            "requests": dict(self._lines),
        }


def _encoded(changed: Mapping[str, Any], *, is_whole: bool) -> str:
    return msgspec.json.encode({"now": round(time(), 3), "is_whole": is_whole, "tables": changed}).decode()
