"""Short constructors for limits, and the limiter and locks of one gateway process with a recording listener."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from time import monotonic

from gateway.admission.quotas import Quota
from gateway.admission.redis.connection import RedisConnection
from gateway.admission.redis.limiter import SharedLimiter, SharedSettings
from gateway.admission.redis.locks import RedisConversationLocks
from gateway.admission.store import StoreListener
from gateway.aio import Tasks
from gateway.config import Limit
from tests.harness.clock import time_passes, until

MINUTE, DAY = 60.0, 86400.0
TICK = 0.05
GLANCE = 0.002


def quota(name="burst", scope="route:support", **keys):
    return Quota(scope, Limit.model_construct(name=name, **keys))


def requests(amount, per=MINUTE, scope="route:support", **keys):
    return quota("burst", scope, requests=amount, per=per, **keys)


def tokens(amount, per=DAY, reserve=0, scope="route:support", **keys):
    return quota("daily", scope, tokens=amount, per=per, reserve=reserve, **keys)


def slots(count, scope="route:support", **keys):
    return quota("open", scope, concurrent=count, **keys)


class StoreEvents:
    """A `StoreListener` that records."""

    def __init__(self):
        self.failed, self.changed, self.took, self.bugs = [], [], [], []
        self.lost, self.conversations_lost, self.replaced, self.broken = [], [], [], []
        self.listener = StoreListener(
            self.failed.append,
            lambda is_up, why: self.changed.append((is_up, why)),
            self.took.append,
            self.lost.append,
            self.conversations_lost.append,
            lambda key, kind: self.replaced.append((key, kind)),
            self.broken.extend,
        )

    async def until_up(self):
        await until(lambda: self.changed and self.changed[-1][0])

    async def until_away(self):
        await until(lambda: self.changed and not self.changed[-1][0])


class Process:
    """The limiter and locks of one gateway process."""

    def __init__(self, limiter, locks, events):
        self.limiter, self.locks, self.events = limiter, locks, events

    def tick(self):
        self.limiter.tick(monotonic())

    async def admit(self, *charges, budget=None):
        return await self.limiter.admit(charges, budget)


@asynccontextmanager
async def process(url, name="a", *, is_ticking=False, lease=30.0, ca=None, random=lambda: 0.5, **sharing):
    """`async with process(valkey.url) as gateway: await gateway.admit(charge)`"""
    events = StoreEvents()
    tasks = Tasks(events.bugs.append)
    limiter = SharedLimiter(
        RedisConnection(url, ca),
        SharedSettings(name, lease=lease, **sharing),
        tasks.start,
        events.listener,
        random,
    )
    locks = RedisConversationLocks(limiter.client, limiter.outbox, name, random, lease)
    limiter.attach(locks)
    await limiter.start()
    gateway = Process(limiter, locks, events)
    timer = asyncio.create_task(_ticking(gateway)) if is_ticking else None
    try:
        yield gateway
    finally:
        if timer is not None:
            timer.cancel()
        await limiter.close()
        await tasks.join(1)
        assert events.bugs == []


async def _ticking(gateway):
    while True:
        gateway.tick()
        await time_passes(TICK)


@asynccontextmanager
async def lag():
    """`async with lag() as lost: … lost.most`: the longest delay of the event loop, in seconds; `lost.sum`: all."""
    lost = Lag()
    watching = asyncio.create_task(lost.watch())
    try:
        yield lost
    finally:
        watching.cancel()


class Lag:
    most = sum = 0.0

    async def watch(self):
        while True:
            began = monotonic()
            await time_passes(GLANCE)
            lost = monotonic() - began - GLANCE
            self.most, self.sum = max(self.most, lost), self.sum + lost
