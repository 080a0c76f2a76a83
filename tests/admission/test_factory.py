"""Limits as configured: memory or a shared store, and what happens without it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.admission.factory import create_limiter
from gateway.admission.quotas import subject
from gateway.admission.store import StoreListener
from gateway.aio import Tasks
from gateway.config import LimitSettings, Store
from gateway.errors import ConversationBusy, StoreUnavailable
from tests.harness.limit_process import requests

TWO = requests(2)
KEY = ("http://flowise", "chat-1")


def created(store, when_store_fails="local"):
    settings = LimitSettings.model_construct(store=Store(store), when_store_fails=when_store_fails)
    tasks = Tasks(lambda error: pytest.fail(repr(error)))
    return create_limiter(settings, tasks.start, StoreListener())


async def admitted(*some):
    charges = [await each.limiter.admit([TWO.charge(subject("me"))]) for each in some for _ in range(2)]
    return [admission.is_allowed for admission in charges]


async def test_memory_counts_each_process_separately():
    one, other = created("memory"), created("memory")
    await one.limiter.start()
    assert await admitted(one, other) == [True] * 4
    (await one.locks.acquire(KEY, 0))()
    one.limiter.tick(0.0)
    await one.limiter.close()


async def test_a_store_is_shared_by_all(valkey):
    one, other = created(valkey.url), created(valkey.url)
    for each in (one, other):
        await each.limiter.start()
    assert await admitted(one, other) == [True, True, False, False]
    release = await one.locks.acquire(KEY, 0)
    with pytest.raises(ConversationBusy):
        await other.locks.acquire(KEY, 0)
    release()
    for each in (one, other):
        each.limiter.tick(0.0)
        await each.limiter.close()


async def test_closed_without_the_store(own_valkey):
    own_valkey.kill()
    closed, local = created(own_valkey.url, "closed"), created(own_valkey.url)
    for each in (closed, local):
        await each.limiter.start()
    with pytest.raises(StoreUnavailable):
        await closed.limiter.admit([TWO.charge(subject("me"))])
    assert await admitted(local) == [True, True]
    for each in (closed, local):
        await each.limiter.close()


def test_an_unreadable_url_is_reported_before_anything_is_created():
    with pytest.raises(ValueError, match=r"limits\.store is not the URL"):
        created("redis://:pass#word@127.0.0.1:6379/0")


def test_a_missing_package_is_named(monkeypatch):
    for name in [
        name for name in sys.modules if name.startswith(("redis", "gateway.admission.redis.connection"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ValueError, match="needs the package redis"):
        created("redis://127.0.0.1:6379/0")
    assert created("memory").limiter is not None


def test_the_gateway_can_be_imported_without_the_package():
    program = "import sys; sys.modules['redis'] = None; import gateway.app"
    subprocess.run([sys.executable, "-c", program], check=True)
