"""SIGHUP to a real process: at its start, while it serves, while it drains, and where there is nothing to read again."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest
import yaml

from gateway.config import load, read
from gateway.server import reload
from gateway.server.reload import Reloads, Source, version_of
from gateway.telemetry.logs import LogOutput
from tests.harness import bounds
from tests.harness.clock import until
from tests.harness.frames import END, METADATA, PATH
from tests.harness.gateway import FLOW, Lines, configuration
from tests.harness.held_stream import TOKEN, Held
from tests.harness.processes import gateway, spawn
from tests.harness.raw_upstream import RawUpstream
from tests.harness.surface import ask

NOWHERE = "http://127.0.0.1:1"


@pytest.mark.timeout(2 * bounds.TEST)
async def test_a_signal_reloads_and_during_the_drain_it_is_answered_with_a_line(serve, connect, tmp_path):
    held = Held()
    async with RawUpstream(held) as upstream, serve(upstream.url) as child, connect(child) as wire:
        wire.post(PATH, {"question": "hi", "streaming": True})
        assert (await wire.head())[0] == 200
        assert await wire.chunk() == TOKEN
        changed = configuration(upstream.url, route={"name": "talk"}, server={"drain": "60s"})
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(changed))
        for _ in range(3):
            child.send_signal(signal.SIGHUP)
        await child.until("config_reloaded")
        held.may_finish.set()
        assert (await ask(connect, child, path="/api/v1/prediction/talk")).status == 200
        assert await wire.until(END) == METADATA + END
        held.may_finish.clear()
        wire.post("/api/v1/prediction/talk", {"question": "hi", "streaming": True})
        assert await wire.chunk() == b""  # the end of the first stream
        assert (await wire.head())[0] == 200
        child.send_signal()
        assert (await child.until("draining"))["drain_s"] == 60  # as reloaded
        child.send_signal(signal.SIGHUP)
        assert "shutting down" in (await child.until("reload_ignored"))["message"]
        held.may_finish.set()
        assert (await wire.until(END)).endswith(END)
        assert await child.ended() == (0, "")


VARIABLES = (
    f"export FLOWISE_URL={NOWHERE} GATEWAY_ROUTES=chat={FLOW} GATEWAY_AUTH=anonymous"
    " GATEWAY_LISTEN=127.0.0.1:0 GATEWAY_ADMIN_LISTEN=127.0.0.1:0"
)


@pytest.mark.parametrize(
    ("before", "arguments", "word"),
    [
        (VARIABLES, [], "environment variables"),
        ("exec < {file}", ["--config", "-"], "standard input"),
        ("mkfifo {file}.pipe; (cat {file} > {file}.pipe &)", ["--config", "{file}.pipe"], "a pipe"),
    ],
    ids=["environment", "input", "pipe"],
)
async def test_where_nothing_can_be_read_again_one_line_says_what_to_do(before, arguments, word, tmp_path):
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump(configuration(NOWHERE, server={"watch": True})))
    given = [argument.format(file=file) for argument in arguments]
    async with gateway("serve", *given, before=before.format(file=file)) as child:
        await child.listens()
        if arguments:
            assert "server.watch has no effect" in (await child.until("reload_ignored"))["message"]
        child.send_signal(signal.SIGHUP)
        assert word in (await child.until("reload_ignored", 1 + bool(arguments)))["message"]
        child.send_signal()
        assert (await child.ended())[0] == 0


PROGRAM = """
import asyncio, os, signal, structlog
from gateway.server.signals import handle_signals, hold_reloads

async def main():
    came = asyncio.Event()
    handle_signals(lambda: None, lambda: None, came.set, structlog.get_logger())
    await came.wait()
    print("reloaded")

hold_reloads()
os.kill(os.getpid(), signal.SIGHUP)  # would end the process
asyncio.run(main())
"""


async def test_a_signal_before_there_are_handlers_waits_for_them():
    process = await spawn(sys.executable, "-c", PROGRAM)
    out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"reloaded\n")


class Served:
    is_admin_local = True

    def __init__(self):
        self.applied, self.counts = [], []

    async def apply(self, config):
        self.applied.append(config)

    def count_reload(self, *, is_valid):
        self.counts.append(is_valid)


async def test_what_is_requested_before_the_gateway_serves_is_done_then(tmp_path):
    path, served, lines = tmp_path / "gateway.yaml", Served(), Lines()
    await asyncio.to_thread(path.write_text, yaml.safe_dump(configuration(NOWHERE)))
    version = await asyncio.to_thread(version_of, path)
    config = await asyncio.to_thread(load, path, {})
    source = Source(str(path), "", path, version, lambda: read(path, {}))
    reloads = Reloads(source, config, served, LogOutput(config.logs, lines).logger())
    reloads.request()
    reloads.tick(1.0)
    assert not reloads._is_looking
    reloads.open()
    for now in (2.0, 3.0):
        reloads.tick(now)
        await until(lambda: not reloads._is_looking)
    assert (served.applied, served.counts) == ([config], [True])
    await reloads.close()


async def test_a_file_that_never_rests_is_refused_and_read_when_it_does(tmp_path, monkeypatch):
    served, lines, version = Served(), Lines(), 0
    path = tmp_path / "gateway.yaml"
    await asyncio.to_thread(path.write_text, yaml.safe_dump(configuration(NOWHERE)))
    config = await asyncio.to_thread(load, path, {})
    source = Source(str(path), "", path, (0,), lambda: read(path, {}))
    reloads = Reloads(source, config, served, LogOutput(config.logs, lines).logger())
    reloads.open()
    reloads.request()
    monkeypatch.setattr(reload, "version_of", lambda _: (version,))
    for look in range(reload.MOST_LOOKS + 1):
        version = look + 1
        reloads.tick(float(look))
        await until(lambda: not reloads._is_looking)
    (line,) = lines.of("config_refused")
    assert "another file at each" in line["reason"]
    reloads.request()
    for look in (100.0, 101.0):
        reloads.tick(look)
        await until(lambda: not reloads._is_looking)
    assert served.counts == [False, True]
    await reloads.close()
