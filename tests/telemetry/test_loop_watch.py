"""The lag of the loop is measured always, and what holds it for long is logged with task and place."""

from __future__ import annotations

import asyncio
from threading import Event
from time import monotonic, thread_time

import pytest

from gateway.aio import Tasks
from gateway.config import LogSettings
from gateway.telemetry import loop_watch
from gateway.telemetry.logs import make_logger
from gateway.telemetry.loop_watch import LoopWatch
from tests.harness.clock import until
from tests.harness.gateway import Lines


def hold(seconds):
    """Work on the loop."""
    end = monotonic() + seconds
    while monotonic() < end:
        pass


class Watched:
    """A watch of the running loop, and what it says."""

    def __init__(self):
        self.lags, self.lines = [], Lines()
        self._watch = LoopWatch(self.lags.append, make_logger(LogSettings(), self.lines))

    def __enter__(self):
        self._watch.start()
        return self

    def __exit__(self, *_):
        self._watch.stop()


async def test_every_beat_is_a_measurement():
    with Watched() as watched:
        await until(lambda: len(watched.lags) == 5)
    assert all(lag >= 0 for lag in watched.lags)


async def test_a_task_that_holds_the_loop_is_named():
    async def work():
        hold(0.6)

    errors = []
    with Watched() as watched:
        await until(lambda: watched.lags)
        Tasks(errors.append).start(work(), "the work")
        (line,) = await watched.lines.until("loop_blocked")
    assert 0.5 < line["lag_s"] == pytest.approx(max(watched.lags), abs=0.001)
    assert line["task"] == "the work"
    assert line["level"] == "warning"
    assert line["where"] is None  # in no file of the gateway


def work(seconds):
    """CPU time of this thread."""
    end = thread_time() + seconds
    while thread_time() < end:
        pass


def stand_still(seconds):
    """As on a machine whose cores others have."""
    Event().wait(seconds)


async def test_a_loop_that_works_is_told_from_one_that_waits(monkeypatch):
    monkeypatch.setattr(loop_watch, "LONG", 0.1)
    monkeypatch.setattr(
        loop_watch, "VERY_LONG", 0.1
    )  # a line from the thread, and one from the loop at the end
    with Watched() as watched:
        await until(lambda: watched.lags)
        work(0.4)
        meanwhile, worked = await watched.lines.until("loop_blocked", 2)
        stand_still(0.4)
        *_, waited = await watched.lines.until("loop_blocked", 4)
    assert 0 < meanwhile["cpu_s"] < worked["cpu_s"]
    assert worked["cpu_s"] > 0.39
    assert waited["lag_s"] > 0.3
    assert waited["cpu_s"] < 0.2


async def test_the_place_in_the_gateway_is_logged_also_for_a_callback(monkeypatch):
    tasks = Tasks(lambda _: hold(0.6))

    async def fail():
        raise ValueError

    with Watched() as watched:
        await until(lambda: watched.lags)
        tasks.start(fail(), "failing")
        (line,) = await watched.lines.until("loop_blocked")
    assert line["where"].startswith("gateway/aio.py:")
    assert line["where"].endswith(" Tasks._done")
    assert line["task"] is None


async def test_a_short_hold_is_measured_but_not_logged():
    with Watched() as watched:
        await until(lambda: watched.lags)
        hold(0.12)
        await until(lambda: max(watched.lags) > 0.05)
        before = max(watched.lags)
    if before < loop_watch.LONG:  # else the machine itself was late
        assert watched.lines.of("loop_blocked") == []


async def test_a_very_long_hold_is_logged_before_its_end(monkeypatch):
    monkeypatch.setattr(loop_watch, "VERY_LONG", 0.3)
    with Watched() as watched:
        await until(lambda: watched.lags)
        hold(0.8)
        first, last = await watched.lines.until("loop_blocked", 2)
    assert first["lag_s"] < last["lag_s"]


async def test_nothing_is_measured_after_the_end():
    with Watched() as watched:
        await until(lambda: watched.lags)
    count = len(watched.lags)
    await asyncio.sleep(0)
    hold(2 * loop_watch.BEAT)
    await asyncio.sleep(0)
    assert len(watched.lags) == count


async def test_a_running_gateway_measures_its_loop(start):
    async with start("http://127.0.0.1:1") as gateway:
        while (await gateway.metrics())["flowise_gateway_loop_lag_seconds_count"] < 3:
            pass
        hold(0.6)
        await gateway.lines.until("loop_blocked")
        scrape = await gateway.metrics()
    assert scrape["flowise_gateway_loop_lag_seconds_sum"] > 0.5
