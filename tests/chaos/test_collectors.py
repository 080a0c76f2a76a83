"""Collectors that are dead, refuse or do not answer: requests and memory are those of a gateway without traces.

`CHAOS_SECONDS`: how long, 600 by default, a third for each. The figures are printed (`-s`).
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

import aiohttp
import pytest

from tests.harness import bounds
from tests.harness.clock import time_passes
from tests.harness.collector import Collector
from tests.harness.frames import ASK, END, METADATA, PATH, event, stream, token
from tests.harness.ports import closed_port
from tests.harness.processes import serving
from tests.harness.raw_upstream import RawUpstream

SECONDS = float(os.environ.get("CHAOS_SECONDS", "600")) / 3
CLIENTS, PAUSE = 6, 0.05  # of each gateway; seconds between two requests of one
MIB = 1024 * 1024
TRACE = 64 * 1024  # bytes: 240 of them are all that may wait
MOST_GROWTH = 16 * MIB  # once as much waits as may: what is free between that
MOST_MEMORY = 60 * MIB  # more than without traces: the packages, what waits, and the batch that is sent

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(SECONDS + 30 * bounds.TEST)]


@asynccontextmanager
async def collector(how):
    """The URL of one that is dead, refuses, or takes requests and does not answer."""
    if how == "dead":
        with closed_port() as port:
            yield f"http://127.0.0.1:{port}"
        return
    async with Collector() as taking:
        taking.status = 503
        if how == "silent":
            taking.may_answer.clear()
        yield taking.url
        taking.may_answer.set()


async def answer(peer, _):
    entry = {"nodeId": "a", "data": {"name": "llmAgentflow", "input": {"text": "x" * TRACE}}}
    stream(peer, token("a"), event("agentFlowExecutedData", json.dumps([entry])), METADATA, END)


@dataclass
class Measured:
    """One gateway under load; times in milliseconds, memory in bytes."""

    gateway: object
    took: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    failures: int = 0

    async def go_on(self, session, until):
        url = f"http://{self.gateway.host}:{self.gateway.port}{PATH}"
        while (began := monotonic()) < until:
            async with session.post(url, json={**ASK, "chatId": f"c{len(self.took)}-{began}"}) as reply:
                whole = await reply.read()
                self.failures += reply.status != 200 or not whole.endswith(END)
            self.took.append((monotonic() - began) * 1000)
            await time_passes(PAUSE)

    async def sample(self, name):
        _, text, _ = await self.gateway.ask("/metrics")
        found = [line.split()[-1] for line in text.splitlines() if line.startswith(name)]
        return sum(map(float, found))

    async def look(self):
        self.memory.append(await self.sample("process_resident_memory_bytes"))

    @property
    def p99(self):
        return statistics.quantiles(self.took, n=100)[98]


@pytest.mark.parametrize("how", ["dead", "refuses", "silent"])
async def test_it_costs_neither_time_nor_memory(tmp_path, how):
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(RawUpstream(answer))
        url = await stack.enter_async_context(collector(how))
        folders = [tmp_path / "plain", tmp_path / "traced"]
        for folder in folders:
            folder.mkdir()
        route = {"conversations": {"bind": False}}
        plain = Measured(await stack.enter_async_context(serving(folders[0], upstream.url, route=route)))
        traced = Measured(
            await stack.enter_async_context(
                serving(folders[1], upstream.url, route=route, traces={"endpoint": url})
            )
        )
        for one in (plain, traced):
            one.gateway.keep_reading()
        session = await stack.enter_async_context(aiohttp.ClientSession())
        until = monotonic() + SECONDS
        load = [
            asyncio.create_task(one.go_on(session, until)) for one in (plain, traced) for _ in range(CLIENTS)
        ]
        while monotonic() < until:
            await time_passes(0.5)
            await plain.look()
            if await traced.sample('flowise_gateway_traces_total{result="queue_full"}'):
                await traced.look()
        await asyncio.gather(*load)
        lost = await traced.sample("flowise_gateway_traces_total")
    grown = max(traced.memory) - traced.memory[0]
    print(
        f"{how}: {len(plain.took)} and {len(traced.took)} requests, p50 {statistics.median(plain.took):.1f} and "
        f"{statistics.median(traced.took):.1f} ms, p99 {plain.p99:.1f} and {traced.p99:.1f} ms, memory "
        f"{plain.memory[-1] / MIB:.0f} and {traced.memory[0] / MIB:.0f} to {traced.memory[-1] / MIB:.0f} MiB, {lost:.0f} traces lost"
    )
    assert (plain.failures, traced.failures) == (0, 0)
    assert lost > len(traced.took) / 2
    assert traced.p99 <= 1.5 * plain.p99 + 10 * bounds.SLOWNESS
    assert grown <= MOST_GROWTH
    assert max(traced.memory) - max(plain.memory) <= MOST_MEMORY
