"""A watched gateway in a process of its own, and the processes around it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.harness.clock import until
from tests.harness.gateway import configuration
from tests.harness.loop_record import Looks
from tests.harness.processes import ROOT
from tests.harness.watched_gateway import RECORD

KIB, MIB = 1024, 1024 * 1024
LOG = "gateway.log"


class Besieged:
    """A gateway whose log is a file, so that reading it costs nothing meanwhile."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process, self._folder, self.log = process, folder, folder / LOG
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
        """What is in progress, and the worst of the loop since the last look, in milliseconds."""
        seen = len(self.lines("inside"))
        self._process.send_signal(signal.SIGUSR1)
        await until(lambda: len(self.lines("inside")) > seen)
        return self.lines("inside")[-1]

    def looks(self, since: int) -> Looks:
        """The record of its loop, up to the last `inside`; `since`: nanoseconds of the monotonic clock."""
        return Looks(self._folder / RECORD, since)

    async def metrics(self) -> dict[str, float]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.admin}/metrics") as answer:
            text = await answer.text()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def resident(self) -> int:
        """Its resident memory in bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * KIB

    async def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()


@asynccontextmanager
async def process_of(module: str, *arguments: str, **options: Any):
    """`python -m MODULE …` until the end of the block."""
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
    async with process_of(module, *arguments, stdout=asyncio.subprocess.PIPE) as process:
        yield int(await process.stdout.readline())


@asynccontextmanager
async def besieged(folder: Path, upstream: str, **more: Any):
    """A watched gateway in front of this upstream."""
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(configuration(upstream, **more)))
    with (folder / LOG).open("wb") as output:
        arguments = ("serve", "--config", str(path))
        async with process_of("tests.harness.watched_gateway", *arguments, stdout=output) as process:
            gateway = Besieged(process, folder)
            await gateway.listens()
            yield gateway
