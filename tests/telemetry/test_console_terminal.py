"""Commands on a real terminal: lines for reading there, JSON everywhere else."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from contextlib import asynccontextmanager

import pytest
import yaml

from tests.harness import bounds
from tests.harness.gateway import configuration
from tests.harness.predictions import ask
from tests.harness.processes import ENVIRON, ROOT

pytestmark = pytest.mark.timeout(3 * bounds.TEST)  # up to three interpreters start
LISTENING = re.compile(r"listening.*?public=\S*?127\.0\.0\.1:(\d+)")


class Terminal:
    """The screen of a command; what it has written so far."""

    def __init__(self, descriptor):
        self._descriptor = descriptor
        self.text = ""

    async def until(self, pattern):
        while (found := re.search(pattern, self.text)) is None:
            self.text += (await asyncio.to_thread(os.read, self._descriptor, 65536)).decode()
        return found


@asynccontextmanager
async def on_a_terminal(*arguments, **environ):
    ours, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway", *arguments),
        cwd=ROOT,
        stdout=theirs,
        env={**ENVIRON, **os.environ, "TERM": "xterm", **environ},
    )
    try:
        terminal = Terminal(ours)
        yield terminal
        process.send_signal(signal.SIGINT)
        await terminal.until("stopped")
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)
        os.close(theirs)


async def asked(terminal, route):
    port = (await terminal.until(LISTENING))[1]
    assert (await ask(f"http://127.0.0.1:{port}", route, "hi"))[0] == 200
    return (await terminal.until(r"[^\n]*200 ok [^\n]*\n"))[0]


async def test_the_demo_logs_lines_for_reading_in_colours():
    async with on_a_terminal("demo", "--listen", "127.0.0.1:0", NO_COLOR="") as terminal:
        line = await asked(terminal, "demo")
    assert re.search(
        r"^\x1b\[2m\d\d:\d\d:\d\d\x1b\[0m \x1b\[32m200 ok +\x1b\[0m demo +anonymous +first \d+ ms +\d+ tokens +\d",
        line,
    )


async def test_no_color_is_obeyed():
    async with on_a_terminal("demo", "--listen", "127.0.0.1:0", NO_COLOR="1") as terminal:
        await asked(terminal, "demo")
    assert "\x1b" not in terminal.text


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_serve_logs_lines_for_reading_with_any_number_of_workers(tmp_path, workers):
    path = tmp_path / "gateway.yaml"
    shared = {"auth": {"secret": "s" * 32}, "limits": {"store": "redis://127.0.0.1:1/0"}}
    path.write_text(yaml.safe_dump(configuration("http://127.0.0.1:1", **shared)))
    async with on_a_terminal("serve", "--config", str(path), "--workers", workers) as terminal:
        await terminal.until(LISTENING)
    assert not [line for line in terminal.text.splitlines() if not line.startswith("\x1b[2m")]


async def test_json_is_kept_on_a_terminal_where_the_configuration_says_so(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(configuration("http://127.0.0.1:1", logs={"format": "json"})))
    async with on_a_terminal("serve", "--config", str(path)) as terminal:
        await terminal.until('"listening"')
    assert {json.loads(line)["event"] for line in terminal.text.splitlines()} >= {"listening", "stopped"}
