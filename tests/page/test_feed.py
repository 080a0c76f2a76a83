"""The feed without HTTP: what it looks at with and without a viewer, and what viewers get."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

from gateway.config import LogSettings
from gateway.page import feed as feed_file
from gateway.page.feed import MOST_VIEWERS, Feed, TooManyViewersError
from gateway.page.history import SLOT
from gateway.page.sample import Sample
from gateway.page.tables import Numbered
from gateway.telemetry.logs import make_logger
from gateway.telemetry.request_counts import Counts

BEGIN = 1_800_000_000.0


class Scripted:
    """Processes with as many requests as the test says."""

    def __init__(self):
        self.requests, self.asked, self.looks = 0, 0, 0
        self.ended = []

    async def samples(self):
        self.asked += 1
        return [Numbered("", Sample(open_runs=self.requests))]

    def counts(self):
        self.looks += 1
        return Counts({("chat", "ok"): self.requests}, {})

    def processes(self):
        return {"": {"pid": 1}}

    def reload(self):
        return {"loaded_at": 1.0}

    async def end(self, worker, key, operator):
        self.ended.append((worker, key, operator))
        return True


@pytest.fixture
def clock(monkeypatch):
    """Sets the time of the day: `clock(seconds)` since `BEGIN`."""
    now = [BEGIN]
    monkeypatch.setattr(feed_file, "time", lambda: now[0])
    monkeypatch.setattr(feed_file, "INTERVAL", 0.01)

    def put(seconds):
        now[0] = BEGIN + seconds

    return put


@pytest.fixture
async def begin(clock):
    """`feed, processes = begin()`"""
    feeds = []
    log = io.StringIO()

    def make(**options):
        processes = Scripted()
        feeds.append(Feed(processes, make_logger(LogSettings(), log), **options))
        return feeds[-1], processes

    yield make
    for feed in feeds:
        await feed.close()
    assert log.getvalue() == ""


async def looked(feed):
    """A slot has ended; wait for what that has begun."""
    feed.look()
    await feed._tasks.join(5.0)


async def first(feed):
    """The tables of the first message of a new viewer."""
    messages = feed.join()
    try:
        message = json.loads(await anext(messages))
    finally:
        await messages.aclose()
        feed.leave()
    assert message["is_whole"]
    return {name: changed["set"] for name, changed in message["tables"].items()}


async def test_without_a_viewer_a_slot_that_has_ended_gets_what_came_in_it(begin, clock):
    feed, processes = begin()
    slot = int(BEGIN // SLOT)
    for ended in range(3):
        processes.requests += 2
        clock((ended + 1) * SLOT)
        await looked(feed)
    assert (processes.looks, processes.asked) == (3, 0)
    hour = (await first(feed))["hour"]
    assert hour == {str(slot + ended): {"": {"ok": 2}, "chat": {"ok": 2}} for ended in range(3)}


async def test_a_page_that_is_off_looks_at_nothing_and_begins_with_an_empty_hour(begin, clock):
    feed, processes = begin(is_on=False)
    processes.requests = 5
    clock(SLOT)
    await looked(feed)
    assert processes.looks == 0
    feed.use(is_on=True)
    assert (await first(feed))["hour"] == {}
    processes.requests = 7
    clock(2 * SLOT)
    await looked(feed)
    assert sum(row[""]["ok"] for row in (await first(feed))["hour"].values()) == 2


async def test_a_viewer_gets_changes_and_one_that_was_away_a_whole_state(begin):
    feed, processes = begin()
    quick, slow = feed.join(), feed.join()
    assert json.loads(await anext(slow))["is_whole"]
    processes.requests = 3
    wholes = [json.loads(await anext(quick))["is_whole"] for _ in range(5)]
    assert wholes == [True, False, False, False, False]
    late = json.loads(await anext(slow))
    assert late["is_whole"]
    assert late["tables"]["gateway"]["set"][""]["open_runs"] == 3
    for messages in (quick, slow):
        await messages.aclose()
        feed.leave()


async def test_there_are_so_many_viewers_and_not_one_more(begin):
    feed, _ = begin()
    viewers = [feed.join() for _ in range(MOST_VIEWERS)]
    with pytest.raises(TooManyViewersError):
        feed.join()
    feed.leave()
    viewers.append(feed.join())
    for messages in viewers:
        await messages.aclose()


async def test_a_run_is_ended_where_it_is(begin):
    feed, processes = begin()
    assert await feed.end("2:12.5", "10.0.0.1")
    assert processes.ended == [("2", "12.5", "10.0.0.1")]


async def test_the_counters_are_looked_at_when_a_slot_ends(begin, clock, monkeypatch):
    monkeypatch.setattr(feed_file, "AFTER_SLOT", 0.0)
    feed, processes = begin()
    clock(SLOT - 0.01)
    feed.open()
    clock(SLOT)
    while not processes.looks:
        await asyncio.sleep(0)
