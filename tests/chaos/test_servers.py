"""Three simulated Flowise in processes of their own, killed and started again in turn, while conversations go on."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

import pytest

from gateway.simulator import AGENTFLOW_ID, CHAIN_ID
from tests.harness import bounds
from tests.harness.ports import free_port
from tests.harness.processes import serving
from tests.harness.rolling import RollingServer, converse, judge, roll

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(30 * bounds.TEST)]
CONVERSATIONS, TURNS, EVERY = 120, 5, 3.0
HEALTH = {"every": "500ms", "timeout": "400ms", "fall": 2, "rise": 1}
EJECT = {"failures": 3, "for": "500ms"}


@pytest.fixture
async def servers():
    async with AsyncExitStack() as stack:
        started = []
        for port in (free_port(), free_port(), free_port()):
            server = RollingServer((sys.executable, "-m", "gateway.simulator", "--port", str(port)), port)
            stack.push_async_callback(server.end)
            started.append(server)
        await asyncio.gather(*(server.start() for server in started))
        yield started


@pytest.mark.parametrize("workers", [1, 2])
async def test_only_what_was_sent_to_a_killed_server_fails(servers, tmp_path, workers, own_valkey):
    sections = {
        "upstreams": {
            "main": {"servers": [{"url": server.url} for server in servers], "health": HEALTH, "eject": EJECT}
        },
        "routes": [
            {"name": name, "chatflow": flow, "upstream": "main", "auth": ["anonymous"]}
            for name, flow in (("chain", CHAIN_ID), ("agentflow", AGENTFLOW_ID))
        ],
        "logs": {"prompts": True},
        "server": {"max_connections_per_address": 5000, "workers": workers},
    }
    if workers > 1:
        sections |= {"limits": {"store": own_valkey.url}, "auth": {"secret": "s" * 32}}
    async with serving(tmp_path, servers[0].url, **sections) as gateway:
        url = f"http://{gateway.host}:{gateway.port}"
        lines = asyncio.create_task(gateway.all_lines())
        ended = asyncio.Event()
        rolling = asyncio.create_task(roll(servers, EVERY, ended.is_set))
        talks = await asyncio.gather(
            *(
                converse(
                    url,
                    "agentflow" if number % 2 else "chain",
                    f"chat{number}",
                    TURNS,
                    delay=0.05 + number % 5 / 20,
                    aborted=(2,) if number % 4 == 1 else (),
                )
                for number in range(CONVERSATIONS)
            )
        )
        ended.set()
        await rolling
        gateway.send_signal()
        turns = [turn for talk in talks for turn in talk]
        count = judge(turns, await lines, servers)
    print(count, [len(server.down) for server in servers])
    assert len(turns) == CONVERSATIONS * TURNS == count["whole"] + count["lost"] + count["aborted"]
    assert sum(len(server.down) for server in servers) >= 3
    assert count["whole"] > len(turns) // 2
    assert count["aborted"] > 5
    assert count["elsewhere"] > 0
