"""The reader of the log stands still: requests and probes are answered all the same, and the process ends in time."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sys
import threading
from contextlib import asynccontextmanager

import aiohttp
import pytest
import yaml

from gateway.config import LogSettings, load
from gateway.server.process import Process
from gateway.telemetry.log_writer import LogWriter
from gateway.telemetry.logs import LogOutput
from tests.harness import bounds
from tests.harness.clock import until
from tests.harness.gateway import Lines, RunningGateway, configuration
from tests.harness.processes import ROOT
from tests.harness.raw_client import Wire, request

pytestmark = pytest.mark.timeout(3 * bounds.TEST)  # some interpreters start in each test

NOWHERE = "http://127.0.0.1:1"
WORKERS = {
    "server": {"workers": 2},
    "auth": {"secret": "a secret of thirty-two bytes or more"},
    "limits": {"store": "redis://127.0.0.1:1/0"},
}
PIPE = 4096  # bytes, the smallest


class Unread:
    """A gateway whose output goes to a pipe that is read only when the test says so."""

    def __init__(self, process, pipe):
        self._process, self._pipe = process, pipe
        self._text = ""

    @property
    def lines(self):
        return [json.loads(line) for line in self._text.splitlines(keepends=True) if line.endswith("\n")]

    def of(self, event):
        return [line for line in self.lines if line["event"] == event]

    def read(self):
        """Read what is in the pipe."""
        try:
            self._text += os.read(self._pipe, 1 << 20).decode()
        except BlockingIOError:
            return

    def send_signal(self, number):
        self._process.send_signal(number)

    async def ended(self):
        async with asyncio.timeout(2 * bounds.STEP):
            return await self._process.wait()


@asynccontextmanager
async def unread(folder, **sections):
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(configuration(NOWHERE, **sections)))
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE)
    os.set_blocking(reading, False)
    command = (sys.executable, "-m", "gateway", "serve", "--config", str(path))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=writing)
    os.close(writing)
    gateway = Unread(process, reading)
    try:
        await until(lambda: gateway.read() or gateway.of("listening"))
        (listening,) = gateway.of("listening")
        gateway.host, _, port = listening["public"].rpartition(":")
        gateway.port, gateway.admin = int(port), f"http://{listening['admin']}"
        yield gateway
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(reading)


async def ping(gateway, times):
    for _ in range(times):
        async with await Wire.to(gateway.host, gateway.port) as wire:
            wire.send(request("GET", "/api/v1/ping", Connection="close"))
            assert (await wire.reply()).body == b"pong"


async def probe(gateway, path):
    async with aiohttp.ClientSession() as session, session.get(gateway.admin + path) as answer:
        return answer.status, (await answer.text()).strip()


@pytest.mark.parametrize(
    ("sections", "is_read_at_the_end"),
    [({}, False), (WORKERS, False), (WORKERS, True)],
    ids=["one process", "workers", "workers that a reader sees end"],
)
async def test_a_log_that_is_not_read_stops_nothing(tmp_path, sections, is_read_at_the_end):
    """Ten times the lines that fit into the pipe. A reader that goes on gets each of them whole."""
    requests = 10 * PIPE // 400
    async with unread(tmp_path, **sections) as gateway:
        await ping(gateway, requests)
        assert await probe(gateway, "/livez") == (200, "ok")
        assert await probe(gateway, "/readyz") == (200, "ok")
        assert len(gateway.of("request")) < requests
        await until(
            lambda: gateway.read() or len(gateway.of("request")) == requests or gateway.of("log_lines_lost")
        )
        assert not gateway.of("log_lines_lost")
        await ping(gateway, requests)
        gateway.send_signal(signal.SIGTERM)
        if is_read_at_the_end:
            await until(lambda: gateway.read() or any("worker" not in line for line in gateway.of("stopped")))
            assert len(gateway.of("request")) == 2 * requests
            assert not gateway.of("log_lines_lost")
        assert await gateway.ended() == 0


class Blocked:
    """A stream that takes no line before it is open."""

    def __init__(self):
        self.writes, self.is_open, self.has_begun = [], threading.Event(), False
        self.whole_lines = 0

    def write(self, text):
        self.has_begun = True
        self.is_open.wait()
        self.writes.append(text)

    def isatty(self):
        return False


async def test_lost_lines_are_a_metric(tmp_path):
    path, stream = tmp_path / "gateway.yaml", Blocked()
    path.write_text(yaml.safe_dump(configuration(NOWHERE)))
    config = await asyncio.to_thread(load, path, {})
    writer = LogWriter(stream, most_waiting=5000)
    writer.__enter__()
    output = LogOutput(LogSettings(), writer)
    process = Process(config, output.logger(), output=output)
    await process.start()
    try:
        gateway = RunningGateway(process, Lines())
        await ping(gateway, 30)
        assert stream.has_begun
        while not (lost := (await gateway.metrics())["flowise_gateway_log_lines_lost_total"]):
            pass
        stream.is_open.set()
        await ping(gateway, 1)
        await until(lambda: any("log_lines_lost" in text for text in stream.writes))
    finally:
        stream.is_open.set()
        await process.stop()
        await asyncio.to_thread(writer.__exit__)
    assert 5 < lost < 30
