"""Three real Flowise with copies of one home, killed and started again in turn, under conversations of both SDKs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from tests.harness import bounds
from tests.harness.ports import free_port
from tests.harness.processes import serving, spawn
from tests.harness.programs import program
from tests.harness.rolling import RollingServer, Turn, converse, judge, question_of, roll
from tests.harness.widget import CLIENTS, clients

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60 * bounds.TEST)]
HERE = Path(__file__).parent
CONVERSATIONS = int(os.environ.get("CONVERSATIONS", "200"))
TURNS, EVERY, DELAY = 5, 10.0, 0.8
HEALTH = {"every": "1s", "timeout": "1s", "fall": 3, "rise": 1}


def copied(home, folder):
    """A copy of the data of a Flowise that may be running."""
    shutil.copytree(home, folder, ignore=shutil.ignore_patterns("logs", "database.sqlite*"))
    with closing(sqlite3.connect(home / "database.sqlite")) as source:
        with closing(sqlite3.connect(folder / "database.sqlite")) as target:
            source.backup(target)
    return folder


@pytest.fixture
async def servers(tmp_path):
    """Each takes 0.9 GB of memory."""
    places = [os.environ.get("FLOWISE_APP"), os.environ.get("FLOWISE_NODE"), os.environ.get("FLOWISE_HOME")]
    if not all(places):
        pytest.skip("FLOWISE_APP, FLOWISE_NODE and FLOWISE_HOME are not set; tests/e2e/run sets them")
    app, node, home = map(Path, places)
    async with AsyncExitStack() as stack:
        started = []
        for number in range(3):
            port, own = free_port(), await asyncio.to_thread(copied, home, tmp_path / f"home{number}")
            command = (str(HERE / "flowise" / "serve"), str(app), str(node), str(own), str(port))
            started.append(server := RollingServer(command, port))
            stack.push_async_callback(server.end)
            await server.start()
        yield started


def questions(prefix, count, folder):
    """A file with the questions of this number of conversations."""
    path = folder / f"{prefix}.json"
    chats = [f"{prefix}{number}" for number in range(count)]
    path.write_text(
        json.dumps([[(chat, question_of(chat, n, DELAY)[0]) for n in range(TURNS)] for chat in chats])
    )
    return path


async def turns_of(*command):
    """The turns that a client prints; what it says of failures is not looked at."""
    process = await spawn(*command)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return [Turn.of(line) for line in out.decode().splitlines()]


async def test_only_what_was_sent_to_a_killed_server_fails(flowise, servers, tmp_path):
    node, python = program("node"), os.environ["FLOWISE_PYTHON"]
    sections = {
        "upstreams": {"main": {"servers": [{"url": server.url} for server in servers], "health": HEALTH}},
        "routes": [
            {"name": name, "chatflow": flowise["flows"][name], "upstream": "main", "auth": ["anonymous"]}
            for name in ("chain", "agentflow")
        ],
        "logs": {"prompts": True},
        "server": {"max_connections_per_address": 5000},
    }
    async with serving(tmp_path, servers[0].url, **sections) as gateway:
        url = f"http://{gateway.host}:{gateway.port}"
        lines, ended = asyncio.create_task(gateway.all_lines()), asyncio.Event()
        rolling = asyncio.create_task(roll(servers, EVERY, ended.is_set))
        of_sdks = CONVERSATIONS * 2 // 5
        talks = await asyncio.gather(
            turns_of(python, str(CLIENTS / "conversations.py"), url, "chain", str(questions("py", of_sdks, tmp_path))),
            turns_of(
                "/bin/sh", "-c", 'cd "$1"; shift; exec "$@"', "sh", str(clients()), node,
                str(CLIENTS / "conversations.mjs"), url, "agentflow", str(questions("js", of_sdks, tmp_path)),
            ),
            *(
                converse(url, "agentflow", f"raw{number}", TURNS, delay=DELAY, aborted=(1, 3))
                for number in range(CONVERSATIONS // 5)
            ),
        )  # fmt: skip
        ended.set()
        await rolling
        gateway.send_signal()
        turns = [turn for talk in talks for turn in talk]
        count = judge(turns, await lines, servers)
    print(
        f"{CONVERSATIONS} conversations, {len(turns)} turns: {count}; killed {[len(one.down) for one in servers]} times"
    )
    assert len(turns) == TURNS * (2 * of_sdks + CONVERSATIONS // 5)
    assert sum(len(server.down) for server in servers) >= 2
    assert min(count["whole"], count["aborted"], count["elsewhere"]) > 0
