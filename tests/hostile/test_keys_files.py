"""Hostile keys files: the loop goes on, the log says what is wrong, and the keys stay as they were."""

from __future__ import annotations

import asyncio
import math
import os
from contextlib import asynccontextmanager

import pytest

from gateway.auth import keys_watch
from tests.harness import bounds
from tests.harness.clock import until
from tests.harness.gateway import running
from tests.harness.key_files import entry, key, write_keys
from tests.harness.loop_lag import MOST, loop_lag
from tests.harness.resident import resident
from tests.harness.surface import answering, ask
from tests.hostile.corpus.keys_files import MANY_KEYS, TABLE

pytestmark = pytest.mark.timeout(2 * bounds.TEST)
LONGEST_LINE = 16 * 1024
MOST_MEMORY = 20 * 1024 * 1024


@pytest.fixture(autouse=True)
def often(hurried, monkeypatch):
    """Look at the file at each tick. A busy machine may take long to read it."""
    monkeypatch.setattr(keys_watch, "CHECK_EVERY", 0.01)
    monkeypatch.setattr(keys_watch, "HANGING_AFTER", bounds.TEST)


@asynccontextmanager
async def guarded(folder, connect, most_memory=MOST_MEMORY):
    """A gateway with one key, and its file.

    Afterwards it has stood still for no moment, the key is valid, and neither memory nor a count has stayed up.
    """
    path = write_keys(folder / "keys.yaml", entry(1))
    sections = {"auth": {"keys_file": str(path)}, "route": {"auth": ["api_key"]}}
    async with answering() as upstream, running(folder, upstream.url, **sections) as gateway:
        before = resident()
        with loop_lag() as lag:
            yield gateway, path
            answer = await ask(connect, gateway, Authorization=f"Bearer {key(1)}")
        assert answer.status == 200
        await gateway.idle()
        assert lag.worst < MOST
        assert gateway.limited_runs() == gateway.held_body_bytes() == 0
        numbers = await gateway.metrics()
        assert {name: number for name, number in numbers.items() if "_active" in name and number} == {}
        await until(lambda: resident() - before < most_memory)  # another thread frees what it has parsed
        assert max(map(len, gateway.lines.getvalue().splitlines())) <= LONGEST_LINE


@pytest.mark.parametrize("name", TABLE)
async def test_a_hostile_keys_file_stalls_nobody_and_revokes_nothing(name, tmp_path, connect):
    case = TABLE[name]
    content = case.make()
    # What many keys leave behind in the heap of this process is there after the first time, and no more after the second.
    for most_memory in (math.inf, MOST_MEMORY) if name in MANY_KEYS else (MOST_MEMORY,):
        other = tmp_path / "other.yaml"
        other.write_bytes(content)
        other.chmod(0o600)
        async with guarded(tmp_path, connect, most_memory) as (gateway, path):
            other.replace(path)
            if case.says:
                (line,) = await gateway.lines.until("keys_file_broken")
                assert any(case.says in mistake for mistake in line["mistakes"]), line
            else:
                await gateway.lines.until("keys_loaded", 2)
                write_keys(path, entry(1))
                await gateway.lines.until("keys_loaded", 3)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
async def test_what_is_no_file_is_not_opened(make, tmp_path, connect):
    async with guarded(tmp_path, connect) as (gateway, path):
        path.unlink()
        make(path)
        line = (await gateway.lines.until("keys_file_broken"))[-1]
        while "not a regular file" not in str(line["mistakes"]):
            count = len(gateway.lines.of("keys_file_broken"))
            line = (await gateway.lines.until("keys_file_broken", count + 1))[-1]


async def test_a_file_that_grows_at_every_check_is_logged(tmp_path, connect, monkeypatch):
    monkeypatch.setattr(keys_watch, "HANGING_AFTER", 0.1)
    async with guarded(tmp_path, connect) as (gateway, path):
        with path.open("ab") as file:
            while not gateway.lines.of("keys_file_broken"):
                file.write(b"# more\n" * 100)
                file.flush()
                await asyncio.sleep(0)
        (line,) = gateway.lines.of("keys_file_broken")
    assert "it has changed at every check" in str(line["mistakes"])
