"""Everything hostile at once beside well-behaved streams, in front of a gateway in a process of its own.

Hostile are the clients, Flowise, and the neighbours: the keys file, an issuer, and for part of the time the limit store.
"""

from __future__ import annotations

import asyncio
import gc
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns
from typing import Any

import aiohttp

from tests.harness.clock import time_passes
from tests.harness.gateway import FLOW
from tests.harness.jwt_tokens import AUDIENCE, EVERY_ALGORITHM, ISSUER
from tests.harness.loop_record import Looks, LoopRecord
from tests.harness.valkey import running_valkey
from tests.harness.well_behaved import WellBehaved
from tests.hostile.besieged import MIB, Besieged, besieged, flowise, process_of
from tests.hostile.hostile_flowise import SETTINGS, flow_of
from tests.hostile.hostile_neighbours import KEYS
from tests.hostile.report import STREAMS, Report

LOOK_EVERY = 0.2  # seconds
RATE, ASKING, DIRECT = 10.0, 3, 10
GOOD = "/api/v1/prediction/good"


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


def with_neighbours(good: str, folder: Path, addresses: dict[str, str]) -> dict[str, Any]:
    """The same with keys, an issuer and a limit store, and a route for each kind of credential."""
    whole = sections(good)
    issuer = {
        "issuer": ISSUER, "audience": AUDIENCE, "algorithms": EVERY_ALGORITHM, "jwks_url": addresses["jwks_url"],
    }  # fmt: skip
    whole["routes"] += [
        {"name": "signed", "chatflow": flow_of(997), "upstream": "main", "auth": ["jwt"]},
        {
            "name": "guarded",
            "chatflow": flow_of(998),
            "upstream": "main",
            "auth": ["api_key"],
            "limits": _limits(),
        },
    ]
    for route in whole["routes"][:2]:
        route["limits"] = _limits()
    whole["server"]["max_header"] = "64KiB"
    return whole | {
        "auth": {
            "keys_file": str(folder / KEYS),
            "secret": "a secret of thirty-two bytes or more",
            "jwt": [issuer],
        },
        "limits": {"store": addresses["store"], "when_store_fails": "local"},
    }


def _limits() -> list[dict[str, Any]]:
    """Of every kind, and beyond reach."""
    return [
        {"name": "requests", "requests": 1_000_000, "per": "1h", "by": "route"},
        {"name": "tokens", "tokens": 100_000_000, "per": "1h", "by": "route"},
        {"name": "open", "concurrent": 10_000, "by": "route"},
    ]


class Neighbours:
    """The process of `hostile_neighbours`, and its orders."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def attack(self, plan: Plan) -> None:
        self._process.stdin.write(f"{plan.seed} {plan.around}\n".encode())

    async def end(self) -> dict[str, int]:
        """Have everything right again; how much of each was hostile."""
        self._process.stdin.write(b"\n")
        return json.loads(await self._process.stdout.readline())


@asynccontextmanager
async def neighbours(folder: Path):
    """Yields the neighbours and their addresses."""
    pipe = asyncio.subprocess.PIPE
    with running_valkey(folder) as valkey:
        arguments = (str(folder), str(valkey.port))
        async with process_of(
            "tests.hostile.hostile_neighbours", *arguments, stdin=pipe, stdout=pipe
        ) as process:
            addresses = json.loads(await process.stdout.readline())
            yield Neighbours(process), addresses


@dataclass(frozen=True)
class Plan:
    """Passes over what is hostile: one to warm up, and after it one or as many as `seconds` have.

    `warm_up`, `share`: how much of each kind; `around`: of what the neighbours have. Replies break off after `most` bytes.
    """

    seconds: float = 0.0
    warm_up: float = 1.0
    share: float = 1.0
    around: float = 1.0
    most: int = 1 << 40
    seed: int = 1


@dataclass(frozen=True)
class Field:
    """Who takes part."""

    gateway: Besieged
    neighbours: Neighbours
    good_port: int


async def onslaught(folder: Path, plan: Plan) -> Report:
    """What comes of this plan."""
    gc.collect()
    async with (
        flowise("tests.bench.upstream") as good_port,
        flowise("tests.hostile.hostile_flowise", str(plan.most)) as bad_port,
        neighbours(folder) as (around, addresses),
    ):  # fmt: skip
        parts = with_neighbours(f"http://127.0.0.1:{good_port}", folder, addresses)
        async with besieged(folder, f"http://127.0.0.1:{bad_port}", **parts) as gateway:
            report = await _besiege(Field(gateway, around, good_port), plan, folder / "client.record")
            assert await gateway.stop() == 0
            for line in gateway.lines():
                report.read_line(line)
            return report


async def _besiege(of: Field, plan: Plan, path: Path) -> Report:
    report, gateway = Report(), of.gateway
    # what comes with the first of a kind is no growth: threads, pools, caches, and the heap that all of it needs at once
    await _pass(of, plan, 0, plan.warm_up, report)
    report.memory.append(gateway.resident() / MIB)
    began, record = monotonic_ns(), LoopRecord(path)
    record.start()
    good, direct = await _pass(of, plan, plan.seconds, plan.share, report)
    record.stop()
    report.late, report.late_direct, report.slowest = good.spread, direct.spread, 1000 * good.slowest
    await _settle(gateway, report)
    looks = gateway.looks(began)
    report.read_looks(looks)
    report.read_late(good.late, looks, Looks(path))
    return report


async def _pass(
    of: Field, plan: Plan, seconds: float, share: float, report: Report
) -> tuple[WellBehaved, WellBehaved]:
    """Attack beside well-behaved streams until nothing is in progress; returns them and those without the gateway."""
    good, direct = WellBehaved(of.gateway.port, GOOD), WellBehaved(of.good_port, GOOD)
    await good.open(STREAMS, RATE)
    await direct.open(DIRECT, RATE)
    asking = [asyncio.ensure_future(good.ask_on()) for _ in range(ASKING)]
    found = await _attack(of, plan, seconds, share)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking)
    await _finish(of.good_port)
    await asyncio.gather(good.ended(), direct.ended())
    await _idle(of.gateway)
    report.passes, report.statuses, report.neighbours = (
        found["passes"],
        found["statuses"],
        found["neighbours"],
    )
    report.invalid += found["invalid"]
    report.streams += good.streams
    report.events += good.tally.events
    report.tokens += good.tokens
    return good, direct


async def _attack(of: Field, plan: Plan, seconds: float, share: float) -> dict[str, Any]:
    arguments = (of.gateway.host, str(of.gateway.port), str(seconds), str(plan.seed), str(share))
    pipe = asyncio.subprocess.PIPE
    async with process_of("tests.hostile.hostile_clients", *arguments, stdout=pipe) as process:
        of.neighbours.attack(plan)
        output = await process.stdout.read()
    return {**json.loads(output), "neighbours": await of.neighbours.end()}


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
    report.in_progress = (await _idle(gateway))["in_progress"]
    report.memory.append(gateway.resident() / MIB)
    samples = await gateway.metrics()
    report.gauges = {name: value for name, value in samples.items() if "_active" in name}
    report.counted = {name: value for name, value in samples.items() if 'route="good"' in name}
