"""A process that competes for a limit; reads acts and writes results as lines of JSON.

`race`: N requests at once; writes how many passed, and how many could not be decided. `hold`: acquires and releases
slots at random for some seconds; writes the times of each. Times are the machine's monotonic seconds.
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


def send(**words):
    print(json.dumps(words), flush=True)


async def race(gateway, *, limit, count, budget, caller):
    charge = requests(limit, per=86400.0).charge(subject(caller))

    async def one():
        try:
            return (await gateway.admit(charge, budget=StoreBudget(budget))).is_allowed
        except StoreUnavailable:
            return None

    results = await asyncio.gather(*(one() for _ in range(count)))
    send(passed=results.count(True), undecided=results.count(None))


async def hold(gateway, *, limit, hands, caller, seconds):
    charge = slots(limit).charge(subject(caller))
    until = monotonic() + seconds

    async def one():
        while monotonic() < until:
            run = await gateway.admit(charge, budget=StoreBudget(5.0))
            if not run.is_allowed:
                await asyncio.sleep(random.uniform(0.0, 0.02))
                continue
            begin = monotonic()
            send(held=run.lease, begin=begin)
            await asyncio.sleep(random.uniform(0.0, 0.2))
            send(held=run.lease, end=monotonic())
            run.release()

    await asyncio.gather(*(one() for _ in range(hands)))
    send(done=True)


async def main(url, name, lease):
    async with process(url, name, is_closed=True, is_ticking=True, lease=float(lease)) as gateway:
        send(ready=gateway.limiter.client.is_up)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            words = json.loads(line)
            await {"race": race, "hold": hold}[words.pop("act")](gateway, **words)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
