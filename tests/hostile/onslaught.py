"""Everything hostile at once beside well-behaved streams, in front of a gateway in a process of its own."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.harness import bounds
from tests.harness.clock import time_passes, until
from tests.harness.gateway import FLOW, configuration
from tests.harness.loop_lag import BUSY
from tests.harness.processes import ROOT
from tests.harness.well_behaved import BEFORE_THE_END, WellBehaved
from tests.hostile.hostile_flowise import SETTINGS, flow_of

LOOK_EVERY = 0.2  # seconds
STREAMS, RATE, ASKING, DIRECT = 100, 10.0, 3, 10
KIB, MIB = 1024, 1024 * 1024
GOOD = "/api/v1/prediction/good"
LATE_MS = 100  # that an event may be late, on a machine that has a core for the gateway
LATER = 0.01  # of all events may be later: what a busy machine does in single moments is not the gateway's
MEMORY_BACK = 20 * MIB
# 500: of Flowise itself, passed on. `None`: closed without an answer; `broken off`: in the middle of one.
STATUSES = {
    *map(str, (200, 204, 400, 401, 403, 404, 405, 413, 429, 431, 500, 502, 503, 504, None)),
    "broken off",
}


def sections(good: str) -> dict[str, Any]:
    """The configuration in front of both: route `chat` takes what the corpus sends, `good` leads to another Flowise."""
    hostile = {
        "name": "chat", "chatflow": FLOW, "upstream": "main", "auth": ["anonymous"], "uploads": True,
        "max_body": "64MiB", "override_config": {"allow": ["vars.*", "sessionId"]}, "body": {"unknown": "drop"},
    }  # fmt: skip
    settings = [
        {"name": f"s{number}", "chatflow": flow_of(number), "upstream": "main", "auth": ["anonymous"]}
        for number in range(len(SETTINGS))
    ]
    good_route = {"name": "good", "chatflow": flow_of(999), "upstream": "good", "auth": ["anonymous"]}
    return {
        "server": {"max_body": "64MiB", "timeouts": {"headers": "3s", "body": "5s", "body_idle": "2s", "send": "5s"}},
        "upstreams": {
            "main": {"timeouts": {"total": "15s"}},
            "good": {"servers": [{"url": good}]},
        },
        "routes": [hostile, good_route, *settings],
    }  # fmt: skip


@dataclass
class Report:
    """What came of it. Times in milliseconds, memory in MiB."""

    passes: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    invalid: list[str] = field(default_factory=list)
    streams: int = 0
    events: int = 0
    tokens: int = 0
    late_ms: float = 0.0
    late_direct_ms: float = 0.0
    latest_ms: float = 0.0
    slowest_ms: float = 0.0
    waits: float = (
        1.0  # how much longer the gateway's loop took than its CPU time, because others had the cores
    )
    lag_ms: float = 0.0
    memory: list[float] = field(default_factory=list)
    in_progress: dict[str, int] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    lines: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)
    counted: dict[str, float] = field(default_factory=dict)

    @property
    def figures(self) -> str:
        return (
            f"{self.passes} passes, {sum(self.statuses.values())} hostile requests {self.statuses}; "
            f"{self.streams} streams with {self.events} events, late {self.late_ms:.0f} ms, the latest {self.latest_ms:.0f} (without the gateway "
            f"{self.late_direct_ms:.0f}; its loop took {self.waits:.1f} times its CPU time); short streams at most {self.slowest_ms:.0f} ms; loop lag {self.lag_ms:.0f} ms; "
            f"memory {self.memory[0]:.0f} to {self.memory[-1]:.0f} MiB; {dict(self.lines)}"
        )


class Besieged:
    """A gateway whose log is a file, so that reading it costs nothing meanwhile."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process, self.log = process, log
        self.host, self.port, self.admin = "127.0.0.1", 0, ""

    def lines(self, *events: str) -> list[dict[str, Any]]:
        """The lines of these events so far; of all if none is given."""
        whole = (line for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n"))
        found = (json.loads(line) for line in whole if not events or any(event in line for event in events))
        return [line for line in found if not events or line["event"] in events]

    async def listens(self) -> None:
        await until(lambda: self._process.returncode is not None or self.lines("listening"))
        (line,) = self.lines("listening")
        self.port, self.admin = int(line["public"].rpartition(":")[2]), "http://" + line["admin"]

    async def inside(self) -> dict[str, Any]:
        """What is in progress, and the worst lag since the last look."""
        seen = len(self.lines("inside"))
        self._process.send_signal(signal.SIGUSR1)
        await until(lambda: len(self.lines("inside")) > seen)
        return self.lines("inside")[-1]

    async def metrics(self) -> dict[str, float]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.admin}/metrics") as answer:
            text = await answer.text()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def resident(self) -> int:
        """Its resident memory in bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * KIB

    def scheduled(self) -> tuple[int, int]:
        """Nanoseconds for which its loop has run, and has waited for a core."""
        ran, waited, _ = Path(f"/proc/{self._process.pid}/schedstat").read_text().split()
        return int(ran), int(waited)

    async def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()


@asynccontextmanager
async def _process(module: str, *arguments: str, **options: Any):
    command = (sys.executable, "-m", module, *arguments)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, **options)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def flowise(module: str, *arguments: str):
    """A Flowise that prints its port; yields that."""
    async with _process(module, *arguments, stdout=asyncio.subprocess.PIPE) as process:
        yield int(await process.stdout.readline())


@asynccontextmanager
async def besieged(folder: Path, upstream: str, **more: Any):
    """A watched gateway in front of this upstream."""
    path, log = folder / "gateway.yaml", folder / "gateway.log"
    path.write_text(yaml.safe_dump(configuration(upstream, **more)))
    with log.open("wb") as output:
        arguments = ("serve", "--config", str(path))
        async with _process("tests.harness.watched_gateway", *arguments, stdout=output) as process:
            gateway = Besieged(process, log)
            await gateway.listens()
            yield gateway


@dataclass(frozen=True)
class Plan:
    """Passes over what is hostile: one to warm up, and after it one or as many as `seconds` have.

    `warm_up`, `share`: how much of each kind. Replies break off after `most` bytes.
    """

    seconds: float = 0.0
    warm_up: float = 1.0
    share: float = 1.0
    most: int = 1 << 40
    seed: int = 1


async def onslaught(folder: Path, plan: Plan) -> Report:
    """What comes of this plan."""
    gc.collect()
    async with (
        flowise("tests.bench.upstream") as good_port,
        flowise("tests.hostile.hostile_flowise", str(plan.most)) as bad_port,
        besieged(folder, f"http://127.0.0.1:{bad_port}", **sections(f"http://127.0.0.1:{good_port}")) as gateway,
    ):  # fmt: skip
        report = await _besiege(gateway, good_port, plan)
        await _settle(gateway, report)
        assert await gateway.stop() == 0
        _read_log(gateway, report)
        return report


async def _besiege(gateway: Besieged, good_port: int, plan: Plan) -> Report:
    report = Report()
    # what comes with the first of a kind is no growth: threads, pools, caches
    await _attack(gateway, 0, plan.seed, plan.warm_up)
    await _idle(gateway)
    report.memory.append(gateway.resident() / MIB)
    await gateway.inside()
    good, direct = WellBehaved(gateway.port, GOOD), WellBehaved(good_port, GOOD)
    await good.open(STREAMS, RATE)
    await direct.open(DIRECT, RATE)
    asking = [asyncio.ensure_future(good.ask_on()) for _ in range(ASKING)]
    before = gateway.scheduled()
    found = await _attack(gateway, plan.seconds, plan.seed, plan.share)
    ran, waited = (after - then for after, then in zip(gateway.scheduled(), before, strict=True))
    report.waits = (ran + waited) / ran
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking)
    await _finish(good_port)
    await asyncio.gather(good.ended(), direct.ended())
    report.passes, report.statuses, report.invalid = found["passes"], found["statuses"], found["invalid"]
    report.streams, report.events, report.tokens = good.streams, good.tally.events, good.tokens
    report.late_ms, report.late_direct_ms = good.late_ms(LATER), direct.late_ms(LATER)
    report.latest_ms = good.late_ms(0)
    report.slowest_ms = 1000 * good.slowest
    return report


async def _attack(gateway: Besieged, seconds: float, seed: int, share: float) -> dict[str, Any]:
    arguments = (gateway.host, str(gateway.port), str(seconds), str(seed), str(share))
    pipe = asyncio.subprocess.PIPE
    async with _process("tests.hostile.hostile_clients", *arguments, stdout=pipe) as process:
        output = await process.stdout.read()
    return json.loads(output)


async def _finish(port: int) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{port}/bench/finish") as answer,
    ):
        assert answer.status == 200  # fmt: skip


async def _idle(gateway: Besieged) -> dict[str, Any]:
    """Wait until nothing is in progress: the deadlines of what hangs are seconds."""
    while any((inside := await gateway.inside())["in_progress"].values()):
        await time_passes(LOOK_EVERY)
    return inside


async def _settle(gateway: Besieged, report: Report) -> None:
    report.lag_ms = 1000 * (await gateway.inside())["worst_lag"]
    report.in_progress = (await _idle(gateway))["in_progress"]
    report.memory.append(gateway.resident() / MIB)
    samples = await gateway.metrics()
    report.gauges = {name: value for name, value in samples.items() if "_active" in name}
    report.counted = {name: value for name, value in samples.items() if 'route="good"' in name}


def _read_log(gateway: Besieged, report: Report) -> None:
    for line in gateway.lines():
        report.lines[line["event"]] += 1
        if line["event"] in ("bug", "library", "log_lines_lost") or line.get("outcome") == "failed":
            report.faults.append(line)
        if line["event"] == "request" and line.get("route") == "good":
            report.lines["good " + line["outcome"]] += 1
            report.lines["good tokens"] += line["tokens_out"]
            report.lines["good events"] += line["events"]


def hold(report: Report) -> None:
    """What must be true of every onslaught."""
    assert not report.invalid
    assert not report.faults
    assert report.statuses.keys() <= STATUSES
    slowness = max(bounds.SLOWNESS, report.waits)
    assert report.lag_ms < 1000 * BUSY * slowness
    assert report.late_ms < report.late_direct_ms + LATE_MS * slowness
    assert report.memory[-1] - report.memory[0] < MEMORY_BACK / MIB, report.figures
    assert not any(report.in_progress.values())
    assert not any(report.gauges.values())
    _hold_counts(report)


def _hold_counts(report: Report) -> None:
    """No stream was cut or miscounted: not in the log, and not in the metrics."""
    events = report.events + BEFORE_THE_END * report.streams
    assert report.streams > STREAMS
    assert report.lines["good ok"] == report.streams
    assert (report.lines["good events"], report.lines["good tokens"]) == (events, report.tokens)
    assert _counted(report, "requests_total") == report.streams
    assert _counted(report, "stream_events_total") == events
    assert _counted(report, "tokens_total", 'type="output"') == report.tokens


def _counted(report: Report, name: str, label: str = "") -> float:
    """The sum of the samples of route `good`."""
    whole = f"flowise_gateway_{name}{{"
    return sum(value for key, value in report.counted.items() if key.startswith(whole) and label in key)
