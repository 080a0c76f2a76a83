"""All workers change their configuration or none does, whatever one of them does meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest
import yaml

from gateway.aio import Tasks
from gateway.config import Config, LogSettings
from gateway.server import rollout
from gateway.server.ipc import ABANDON, ANSWER, COMMIT, PREPARE, READY, Proposal, numbered, parse_numbered
from gateway.server.reload import CannotApplyError
from gateway.server.rollout import Rollout
from gateway.server.worker import RolloutWorker
from tests.harness import bounds
from tests.harness.clock import until
from tests.harness.fleet import SECRET
from tests.harness.frames import END, METADATA, PATH
from tests.harness.gateway import configuration
from tests.harness.held_stream import TOKEN, Held
from tests.harness.raw_client import Wire, request
from tests.harness.raw_upstream import RawUpstream
from tests.harness.stopped import stopped
from tests.harness.surface import QUESTION

CONFIG = Config.model_construct()


class Worker:
    """A worker as the rollout sees it. `reason`: its answer to a proposal; None: there is none."""

    def __init__(self, number, reason="", *, is_running=True):
        self.number = number
        self.is_running = is_running
        self.config = "old"
        self.heard = []
        self.reason = reason

    def ask(self, message, number):
        word, given, _ = parse_numbered(message.partition(b"\n")[0])
        self.heard.append(word)
        assert given == number
        answer = asyncio.get_running_loop().create_future()
        if word == COMMIT or self.reason is not None:
            answer.set_result("" if word == COMMIT else self.reason)
        return answer

    def send(self, message):
        self.heard.append(parse_numbered(message)[0])

    def adopt(self, config):
        self.config = config


async def test_all_prepare_and_then_all_commit_and_one_that_is_not_there_starts_with_it():
    workers = [Worker(1), Worker(2), Worker(3, is_running=False)]
    await Rollout(workers, asyncio.Lock()).apply(CONFIG, None)
    assert [worker.heard for worker in workers] == [[PREPARE, COMMIT], [PREPARE, COMMIT], []]
    assert [worker.config for worker in workers] == [CONFIG] * 3


@pytest.mark.parametrize("reason", ["cannot read ca.pem", None], ids=["refuses", "silent"])
async def test_none_changes_if_one_cannot(reason, monkeypatch):
    monkeypatch.setattr(rollout, "PREPARE_WITHIN", 0.05)
    workers = [Worker(1), Worker(2, reason)]
    with pytest.raises(CannotApplyError, match=f"worker 2 {reason or 'has not answered within'}"):
        await Rollout(workers, asyncio.Lock()).apply(CONFIG, None)
    assert [worker.heard for worker in workers] == [[PREPARE, ABANDON]] * 2
    assert [worker.config for worker in workers] == ["old", "old"]


async def test_no_worker_is_started_meanwhile():
    starting = asyncio.Lock()
    await starting.acquire()
    workers = [Worker(1)]
    applying = asyncio.ensure_future(Rollout(workers, starting).apply(CONFIG, None))
    await asyncio.wait([applying], timeout=0)
    assert workers[0].heard == []
    starting.release()
    await applying
    assert workers[0].config is CONFIG


class Process:
    """What a worker serves. A proposal is prepared once `may_prepare` is set."""

    def __init__(self):
        self.may_prepare = asyncio.Event()
        self.committed, self.abandoned = [], []

    async def prepare(self, config, keys):
        await self.may_prepare.wait()
        if keys is not None:
            raise CannotApplyError("cannot\nread ca.pem")
        return config.level

    def commit(self, prepared):
        self.committed.append(prepared)

    async def abandon(self, prepared):
        self.abandoned.append(prepared)


@pytest.fixture
async def worker_side():
    """A worker's side: its process, what it has written to its parent, and a way to send it a message."""
    process, written = Process(), []
    tasks = Tasks(lambda error: pytest.fail(repr(error)))
    parent = SimpleNamespace(write=written.append, is_closing=lambda: False)
    side = RolloutWorker(process, parent, tasks)

    async def send(message):
        first, _, rest = message.partition(b"\n")
        reader = asyncio.StreamReader()
        reader.feed_data(rest)
        await side.on_message(first + b"\n", reader)

    yield SimpleNamespace(side=side, process=process, written=written, send=send, tasks=tasks)
    await tasks.join(0)


def proposal(level, number, keys=None):
    return Proposal(LogSettings(level=level), keys).encode(number)


async def test_a_worker_prepares_once_it_serves_and_commits_what_it_has_prepared(worker_side):
    worker_side.process.may_prepare.set()
    await worker_side.send(proposal("debug", 1))
    await asyncio.wait(worker_side.tasks._tasks, timeout=0.01)
    assert worker_side.written == []
    worker_side.side.open()
    await until(lambda: len(worker_side.written) == 2)
    assert worker_side.written == [READY, numbered(ANSWER, 1)]
    assert worker_side.process.committed == []
    await worker_side.send(numbered(COMMIT, 1))
    assert (worker_side.process.committed, worker_side.written[2:]) == (["debug"], [numbered(ANSWER, 1)])


async def test_a_worker_that_cannot_says_why_in_one_line(worker_side):
    worker_side.side.open()
    worker_side.process.may_prepare.set()
    await worker_side.send(proposal("debug", 1, keys=()))
    await until(lambda: len(worker_side.written) == 2)
    assert parse_numbered(worker_side.written[1]) == (ANSWER, 1, "cannot read ca.pem")


async def test_what_is_prepared_too_late_is_abandoned_and_the_next_proposal_is_served(worker_side):
    worker_side.side.open()
    await worker_side.send(proposal("debug", 1))
    await worker_side.send(numbered(ABANDON, 1))
    await worker_side.send(proposal("error", 2))
    worker_side.process.may_prepare.set()
    await until(lambda: len(worker_side.written) == 3)
    assert worker_side.process.abandoned == ["debug"]
    await worker_side.send(numbered(COMMIT, 2))
    assert worker_side.process.committed == ["error"]


# -- real workers ------------------------------------------------------------------------------------------------------


@pytest.fixture
def workers(serve, valkey):
    """Two of them, with a real store; sections as for `serve`."""

    def sections(**more):
        return {
            "server": {"workers": 2, **more.pop("server", {})},
            "auth": {"secret": SECRET},
            "limits": {"store": valkey.url},
            **more,
        }

    def begin(upstream, **more):
        return serve(upstream, **sections(**more))

    begin.sections = sections
    return begin


async def change(gateway, path, upstream, sections):
    """Write a configuration and ask for it."""
    await asyncio.to_thread(path.write_text, yaml.safe_dump(configuration(upstream, **sections)))
    gateway.send_signal(signal.SIGHUP)


async def a_wire_to_each(gateway, stack):
    """A connection to each worker, by its number."""
    wires, count = {}, len([line for line in gateway.lines if line["event"] == "request"])
    while len(wires) < 2:
        count += 1
        wire = await stack.enter_async_context(await Wire.to(gateway.host, gateway.port))
        wire.send(request("GET", "/api/v1/ping"))
        await wire.reply()
        wires.setdefault((await gateway.until("request", count))["worker"], wire)
    return wires


async def status_of(wire, route):
    wire.send(request("POST", f"/api/v1/prediction/{route}", QUESTION))
    return (await wire.reply()).status


@pytest.mark.timeout(4 * bounds.TEST)
async def test_workers_change_together_streams_go_on_and_a_dead_one_is_no_obstacle(workers, tmp_path):
    held, path = Held(), tmp_path / "gateway.yaml"
    async with (
        RawUpstream(held) as upstream,
        workers(upstream.url) as gateway,
        AsyncExitStack() as stack,
    ):
        wires = await a_wire_to_each(gateway, stack)
        stream = await stack.enter_async_context(await Wire.to(gateway.host, gateway.port))
        stream.post(PATH, {"question": "hi", "streaming": True})
        assert (await stream.head())[0] == 200
        assert await stream.chunk() == TOKEN
        held.may_finish.set()

        renamed = workers.sections(route={"name": "talk"})
        await change(gateway, path, upstream.url, renamed)
        await gateway.until("config_reloaded")
        assert [await status_of(wire, "talk") for wire in wires.values()] == [200, 200]
        assert [await status_of(wire, "chat") for wire in wires.values()] == [404, 404]
        assert await stream.until(END) == METADATA + END

        await change(gateway, path, upstream.url, workers.sections(route={"upstream": "nowhere"}))
        mistake = await gateway.until("config_mistake")
        assert mistake["line"] > 1
        assert [await status_of(wire, "talk") for wire in wires.values()] == [200, 200]

        pids = {line["worker"]: line["pid"] for line in gateway.lines if line["event"] == "worker_ready"}
        with stopped(pids[2]):  # it cannot answer, and dies before it could
            again = workers.sections(route={"name": "third"})
            await change(gateway, path, upstream.url, again)
            await gateway.until("worker_stalled")
            assert await status_of(wires[1], "talk") == 200  # nothing has changed yet
            os.kill(pids[2], signal.SIGKILL)
        await gateway.until("config_reloaded", 2)
        assert await status_of(wires[1], "third") == 200
        await gateway.until("worker_ready", 3)
        async with AsyncExitStack() as fresh:
            replaced = await a_wire_to_each(gateway, fresh)
            assert [await status_of(wire, "third") for wire in replaced.values()] == [200, 200]
        status, text, _ = await gateway.ask("/metrics")
        assert status == 200
        assert 'flowise_gateway_config_reloads_total{result="error"} 1.0' in text
