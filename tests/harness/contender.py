"""A process that wants something of a limit that others want, too; told what by lines of JSON, tells what it got.

`race`: so many requests at once; answers how many passed, and how many could not be decided. `hold`: takes slots and
gives them back, at random, until told to stop; answers the times of each. Times are the machine's monotonic seconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from time import monotonic

import uvloop

from gateway.admission.quotas import subject
from gateway.admission.store import StoreBudget
from gateway.errors import StoreUnavailable
from tests.harness.limit_process import process, requests, slots


def tell(**words):
    print(json.dumps(words), flush=True)


async def race(gateway, *, limit, count, budget, who):
    charge = requests(limit, per=86400.0).charge(subject(who))

    async def one():
        try:
            return (await gateway.admit(charge, budget=StoreBudget(budget))).is_allowed
        except StoreUnavailable:
            return None

    results = await asyncio.gather(*(one() for _ in range(count)))
    tell(passed=results.count(True), undecided=results.count(None))


async def hold(gateway, *, limit, hands, who, seconds):
    charge = slots(limit).charge(subject(who))
    until = monotonic() + seconds

    async def one():
        while monotonic() < until:
            run = await gateway.admit(charge, budget=StoreBudget(5.0))
            if not run.is_allowed:
                await asyncio.sleep(random.uniform(0.0, 0.02))
                continue
            begin = monotonic()
            tell(held=run.lease, begin=begin)
            await asyncio.sleep(random.uniform(0.0, 0.2))
            tell(held=run.lease, end=monotonic())
            run.release()

    await asyncio.gather(*(one() for _ in range(hands)))
    tell(done=True)


async def main(url, name, lease):
    async with process(url, name, is_closed=True, is_ticking=True, lease=float(lease)) as gateway:
        tell(ready=gateway.limiter.client.is_up)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            words = json.loads(line)
            await {"race": race, "hold": hold}[words.pop("act")](gateway, **words)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
