"""The outbox: every command arrives sooner or later, or is counted as dropped."""

from __future__ import annotations

import pytest

from gateway.admission.quotas import subject
from gateway.admission.redis import outbox as outbox_module
from gateway.admission.redis.commands import Command
from gateway.admission.redis.outbox import MAX_TRIES
from gateway.admission.redis.pipeline import FAILURES
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
        gateway.limiter.outbox.send(push("a"))
        await gateway.limiter.outbox.flush()
        assert len(gateway.limiter.outbox) == 0
    assert pushed(valkey) == ["a"]


async def test_commands_kept_without_the_store_are_sent_before_it_counts_as_up(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.kill()
        await gateway.events.until_away()
        for count in range(250):
            gateway.limiter.outbox.send(push(str(count)))
        assert len(gateway.limiter.outbox) == 250
        gateway.tick()
        assert len(gateway.limiter.outbox) == 250
        own_valkey.start()
        await gateway.events.until_up()
        assert len(gateway.limiter.outbox) == 0
    assert pushed(own_valkey) == [str(count) for count in range(250)]


async def test_a_command_that_may_be_applied_is_not_sent_again_when_the_store_may_have_forgotten_it(
    own_valkey, monkeypatch
):
    """One that was never sent is."""
    async with process(own_valkey.url) as gateway:
        outbox = gateway.limiter.outbox
        own_valkey.hold()
        for _ in range(FAILURES):
            outbox.send(push("sent"))
        await gateway.events.until_away()
        outbox.send(push("not sent"))
        assert len(outbox) == FAILURES + 1
        monkeypatch.setattr(outbox_module, "MAX_AGE", 0.0)
        own_valkey.restart()
        await gateway.events.until_up()
        assert gateway.events.failed.count("dropped") == FAILURES
    assert pushed(own_valkey) == ["not sent"]


async def test_a_command_that_fails_while_the_store_is_up_is_retried_within_bounds(valkey):
    async with process(valkey.url) as gateway:
        outbox, events = gateway.limiter.outbox, gateway.events
        outbox.send(WRONG)
        for tries in range(1, MAX_TRIES):
            await outbox.flush()
            assert len(outbox) == 1
            assert len(events.failed) == tries
            assert (
                await gateway.admit(requests(MAX_TRIES).charge(subject("me")))
            ).is_allowed  # the store itself works
            gateway.tick()
        await outbox.flush()
        assert len(outbox) == 0
        assert events.failed == ["reply"] * MAX_TRIES + ["dropped"]


async def test_it_is_bounded_and_drops_the_oldest(own_valkey, monkeypatch):
    monkeypatch.setattr(outbox_module, "MAX_KEPT", 3)
    async with process(own_valkey.url) as gateway:
        own_valkey.kill()
        await gateway.events.until_away()
        before = len(gateway.events.failed)
        for text in "abcde":
            gateway.limiter.outbox.send(push(text))
        assert gateway.events.failed[before:] == ["dropped", "dropped"]
        own_valkey.start()
        await gateway.events.until_up()
    assert pushed(own_valkey) == ["c", "d", "e"]


async def test_a_catch_up_that_fails_loses_nothing(valkey):
    async def breaks(_):
        raise StoreError("timeout")

    async with process(valkey.url) as gateway:
        outbox = gateway.limiter.outbox
        gateway.limiter.client.is_up = False
        for text in "abc":
            outbox.send(push(text))
        with pytest.raises(StoreError):
            await outbox.catch_up(breaks)
        assert len(outbox) == 3
        gateway.limiter.client.is_up = True
        gateway.tick()
        await outbox.flush()
    assert pushed(valkey) == ["a", "b", "c"]


async def test_a_command_that_the_store_refuses_does_not_keep_it_away(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.kill()
        await gateway.events.until_away()
        for command in (push("a"), WRONG, push("b")):
            gateway.limiter.outbox.send(command)
        own_valkey.start()
        await gateway.events.until_up()
        assert gateway.events.failed[-1] == "dropped"
    assert pushed(own_valkey) == ["a", "b"]


async def test_flush_waits_no_longer_than_a_call_may_take(own_valkey):
    async with process(own_valkey.url) as gateway:
        own_valkey.hold()
        gateway.limiter.outbox.send(push("a"))
        await gateway.limiter.outbox.flush()
        assert len(gateway.limiter.outbox) == 1
        own_valkey.go_on()
        gateway.tick()
        await until(lambda: len(gateway.limiter.outbox) == 0)
