"""Contenders as child processes."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

from tests.harness import bounds

ROOT = Path(__file__).parents[2]


class Contender:
    """One process. `spans`: begin and end of every slot that it held; the end is never later than the true one."""

    def __init__(self, process):
        self._process = process
        self._begun = {}
        self.spans = []

    async def answer(self):
        line = await self._process.stdout.readline()
        return json.loads(line) if line else None

    def send(self, **words):
        self._process.stdin.write(json.dumps(words).encode() + b"\n")

    async def watch(self):
        """Record the slots that it holds, until it is done or dead."""
        while (said := await self.answer()) is not None and "done" not in said:
            if "begin" in said:
                self._begun[said["held"]] = said["begin"]
            else:
                self.spans.append((self._begun.pop(said["held"]), said["end"]))

    def kill(self):
        """Send SIGKILL; the slots it holds count as held until then."""
        self.killed_at = monotonic()
        self._process.send_signal(signal.SIGKILL)

    def bury(self):
        self.spans += [(begin, self.killed_at) for begin in self._begun.values()]
        self._begun = {}

    async def end(self):
        if self._process.returncode is None:
            self._process.stdin.close()
            try:
                async with asyncio.timeout(bounds.STEP):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
        await self._process.communicate()


async def contender(url, name, lease=30.0):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.harness.contender", url, name, str(lease)),
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    return Contender(process)


@asynccontextmanager
async def contenders(url, count, lease=30.0):
    """`count` contenders, connected."""
    started = [await contender(url, f"contender {number}", lease) for number in range(count)]
    try:
        for each in started:
            assert await each.answer() == {"ready": True}
        yield started
    finally:
        await asyncio.gather(*(each.end() for each in started))


async def raced(started, *, limit, each, caller, budget=5.0):
    """How many requests passed in all, and how many could not be decided."""
    for one in started:
        one.send(act="race", limit=limit, count=each, budget=budget, caller=caller)
    answers = [await one.answer() for one in started]
    return sum(answer["passed"] for answer in answers), sum(answer["undecided"] for answer in answers)


def most_at_once(spans):
    """The highest number of spans that overlap."""
    moments = sorted((time, change) for begin, end in spans for time, change in ((begin, 1), (end, -1)))
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most
