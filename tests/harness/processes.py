"""The gateway in a process of its own: started by its command, observed by its log lines, stopped by signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.harness.clock import time_passes
from tests.harness.gateway import configuration

ROOT = Path(__file__).parents[2]
# aiohttp reads the authorities of the system as it loads, which is a sixth of the start; those of tests have their own
ENVIRON = {"SSL_CERT_FILE": os.devnull}
PAUSE = (
    0.005  # seconds between two looks at what a process does; without, looking takes the core that it needs
)


class Child:
    """A running process. Its standard output is read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._forgetting: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._more = asyncio.Event()
        self.output: list[str] = []
        self._lines: list[dict[str, Any]] = []
        self._parsed = 0

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log lines so far."""
        new, self._parsed = self.output[self._parsed :], len(self.output)
        self._lines += [json.loads(line) for line in new if line.startswith("{")]
        return list(self._lines)

    async def until(self, event: str, count: int = 1) -> dict[str, Any]:
        """The `count`th log line of this event; reads output until it comes."""
        while len(found := [line for line in self.lines if line["event"] == event]) < count:
            await self._read(f"the log line {event!r}")
        return found[count - 1]

    async def until_text(self, start: str) -> str:
        """The first line with this beginning; reads output until it comes."""
        while not (found := [line for line in self.output if line.startswith(start)]):
            await self._read(f"a line that begins with {start!r}")
        return found[0]

    def keep_reading(self) -> None:
        """Read its output from now on, also while nothing waits for a line of it."""

        async def read() -> None:
            while line := await self._process.stdout.readline():
                self.output.append(line.decode().rstrip("\n"))
                self._more.set()
            self._more.set()

        self._reading = asyncio.ensure_future(read())

    async def _read(self, wanted: str) -> None:
        if self._reading is not None:
            if self._reading.done():
                raise AssertionError(f"the process ended before {wanted}: {self.output[-20:]}")
            self._more.clear()
            await self._more.wait()
            return
        line = await self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the process ended before {wanted}: {self.output}")
        self.output.append(line.decode().rstrip("\n"))

    async def all_lines(self) -> list[dict[str, Any]]:
        """Its log lines, until it ends."""
        while line := await self._process.stdout.readline():
            self.output.append(line.decode().rstrip("\n"))
        return self.lines

    def forget_output(self) -> None:
        """Discard its output from now on, so that it never blocks on a full pipe."""

        async def forget() -> None:
            while await self._process.stdout.read(2**16):
                pass

        self._forgetting = asyncio.ensure_future(forget())

    @property
    def pid(self) -> int:
        return self._process.pid

    def send_signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    async def ended(self) -> tuple[int, str]:
        """Wait until it exits; returns its status and standard error. `output` keeps the rest of its output."""
        if self._reading is not None:
            await self._reading
        out, err = await self._process.communicate()
        self.output += out.decode().splitlines()
        return self._process.returncode, err.decode()

    async def end(self) -> None:
        for task in (self._forgetting, self._reading):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
            self._process._transport.close()  # a worker that stands still would keep its pipes open


class Served(Child):
    """A gateway that listens, or will."""

    host = "127.0.0.1"
    port = 0
    admin = ""

    async def listens(self) -> None:
        line = await self.until("listening")
        self.port = int(line["public"].rpartition(":")[2])
        self.admin = "http://" + line["admin"]

    async def ask(self, path: str, **headers: str) -> tuple[int, str, aiohttp.typedefs.LooseHeaders]:
        """GET from the admin listener."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.admin + path, headers=headers) as answer,
        ):
            return answer.status, await answer.text(), answer.headers

    async def refuses_connections(self) -> None:
        """Wait until the public port is closed."""
        while True:
            try:
                _, writer = await asyncio.open_connection(self.host, self.port)
            except ConnectionError:
                return
            writer.close()
            await time_passes(PAUSE)


async def spawn(*command: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={**ENVIRON, **os.environ}, stdout=pipe, stderr=pipe, limit=2**20
    )


@asynccontextmanager
async def gateway(*arguments: str, before: str = "", module: str = "gateway"):
    """`python -m gateway …`, or another module; a shell runs the command `before` first."""
    command = [sys.executable, "-m", module, *arguments]
    if before:
        command = ["/bin/sh", "-c", f'{before}; exec "$@"', "sh", *command]
    child = Served(await spawn(*command))
    try:
        yield child
    finally:
        await child.end()


@asynccontextmanager
async def serving(folder: Path, upstream: str, *, before: str = "", module: str = "gateway", **sections: Any):
    """`gateway serve` on free ports in front of this upstream; sections as for `configuration`."""
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(configuration(upstream, **sections)))
    async with gateway("serve", "--config", str(path), before=before, module=module) as child:
        await child.listens()
        yield child


async def run(*arguments: str, before: str = "") -> tuple[int, str, str]:
    """Run a command that exits by itself, `before` as for `gateway`; returns status, output, errors."""
    async with gateway(*arguments, before=before) as child:
        status, err = await child.ended()
        return status, "\n".join(child.output), err
