"""The backlog: what nobody waits for arrives sooner or later, or is counted as lost."""

from __future__ import annotations

import pytest

from gateway.admission.quotas import subject
from gateway.admission.redis import outbox as backlog_module
from gateway.admission.redis.commands import Command
from gateway.admission.redis.outbox import TRIES
from gateway.admission.store import StoreError
from tests.harness.clock import until
from tests.harness.limit_process import process, requests


def push(text):
    return Command(("RPUSH", "list", text))


WRONG = Command(("GET",))


def pushed(server):
    with server.client() as client:
        return [text.decode() for text in client.lrange("list", 0, -1)]


async def test_it_is_sent_at_once(valkey):
    async with process(valkey.url) as gateway:
        gateway.limiter.backlog.send(push("a"))
        await gateway.limiter.backlog.flush()
        assert len(gateway.limiter.backlog) == 0
    assert pushed(valkey) == ["a"]


async def test_what_the_store_misses_is_told_before_it_counts_as_there(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.kill()
        await gateway.told.until_away()
        for count in range(250):
            gateway.limiter.backlog.send(push(str(count)))
        assert len(gateway.limiter.backlog) == 250
        gateway.tick()
        assert len(gateway.limiter.backlog) == 250
        own_valkey.start()
        await gateway.told.until_up()
        assert len(gateway.limiter.backlog) == 0
    assert pushed(own_valkey) == [str(count) for count in range(250)]


async def test_what_failed_while_the_store_was_there_is_tried_again_but_not_for_ever(valkey):
    async with process(valkey.url) as gateway:
        backlog, told = gateway.limiter.backlog, gateway.told
        backlog.send(WRONG)
        for tries in range(1, TRIES):
            await backlog.flush()
            assert len(backlog) == 1
            assert len(told.failed) == tries
            assert (
                await gateway.admit(requests(TRIES).ask(subject("me")))
            ).is_allowed  # the store itself is well
            gateway.tick()
        await backlog.flush()
        assert len(backlog) == 0
        assert told.failed == ["reply"] * TRIES + ["dropped"]


async def test_it_is_bounded_and_the_oldest_goes(own_valkey, monkeypatch):
    monkeypatch.setattr(backlog_module, "MOST", 3)
    async with process(own_valkey.url) as gateway:
        own_valkey.kill()
        await gateway.told.until_away()
        before = len(gateway.told.failed)
        for text in "abcde":
            gateway.limiter.backlog.send(push(text))
        assert gateway.told.failed[before:] == ["dropped", "dropped"]
        own_valkey.start()
        await gateway.told.until_up()
    assert pushed(own_valkey) == ["c", "d", "e"]


async def test_a_catching_up_that_breaks_loses_nothing(valkey):
    async def breaks(_):
        raise StoreError("timeout")

    async with process(valkey.url) as gateway:
        backlog = gateway.limiter.backlog
        gateway.limiter.link.is_up = False
        for text in "abc":
            backlog.send(push(text))
        with pytest.raises(StoreError):
            await backlog.catch_up(breaks)
        assert len(backlog) == 3
        gateway.limiter.link.is_up = True
        gateway.tick()
        await backlog.flush()
    assert pushed(valkey) == ["a", "b", "c"]


async def test_a_command_that_the_store_refuses_does_not_keep_it_away(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.kill()
        await gateway.told.until_away()
        for command in (push("a"), WRONG, push("b")):
            gateway.limiter.backlog.send(command)
        own_valkey.start()
        await gateway.told.until_up()
        assert gateway.told.failed[-1] == "dropped"
    assert pushed(own_valkey) == ["a", "b"]


async def test_flushing_waits_no_longer_than_a_call_may_take(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.hold()
        gateway.limiter.backlog.send(push("a"))
        await gateway.limiter.backlog.flush()
        assert len(gateway.limiter.backlog) == 1
        own_valkey.go_on()
        gateway.tick()
        await until(lambda: len(gateway.limiter.backlog) == 0)
