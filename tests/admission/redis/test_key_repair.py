"""A key that holds what no gateway writes disturbs its own requests, and no others."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from gateway.admission.quotas import subject
from gateway.admission.redis.commands import PING
from gateway.admission.store import StoreError
from gateway.errors import StoreUnavailable
from tests.harness.clock import until
from tests.harness.limit_process import process, requests, slots, tokens

ME, YOU = subject("me"), subject("you")
QUOTAS = {"requests": requests(5), "tokens": tokens(1000, per=1e6, reserve=10), "slots": slots(5)}
OTHER_TYPES = ["string", "list", "hash", "set", "zset", "stream"]
KEY = ("http://flowise", "chat-1")


def spoil(client, key, kind):
    client.delete(key)
    {
        "string": lambda: client.set(key, "a text"),
        "list": lambda: client.lpush(key, 1),
        "hash": lambda: client.hset(key, "a", 1),
        "set": lambda: client.sadd(key, 1),
        "zset": lambda: client.zadd(key, {"a": 1}),
        "stream": lambda: client.xadd(key, {"a": 1}),
    }[kind]()


def spoilt_keys():
    """A quota and a type that its key must not have."""
    return [
        (name, kind)
        for name in QUOTAS
        for kind in OTHER_TYPES
        if kind != ("zset" if name == "slots" else "string")
    ]


@pytest.mark.parametrize(("name", "kind"), spoilt_keys())
async def test_a_key_of_a_wrong_type_is_replaced_and_the_request_counts(valkey, name, kind):
    charges = [quota.charge(ME) for quota in QUOTAS.values()]
    key = QUOTAS[name].charge(ME).key
    async with process(valkey.url) as gateway:
        with valkey.client() as client:
            spoil(client, key, kind)
        runs = [await gateway.admit(*charges) for _ in range(6)]
        assert [run.is_in_store for run in runs] == [True] * 5 + [False]
        assert runs[-1].refused == ("burst", "open")
        assert gateway.events.replaced == [(key, kind)]
        assert (gateway.events.failed, gateway.events.broken) == ([], [])
        assert gateway.events.changed == [(True, "")]


async def test_what_runs_send_about_other_keys_in_the_same_command_is_not_lost(valkey):
    """Renewals, settlements and releases."""
    one, other = slots(5), slots(5, scope="key:k")
    daily, monthly = (tokens(1000, per=1e6, reserve=10, scope=scope) for scope in ("route:a", "route:b"))
    charges = [quota.charge(ME) for quota in (one, other, daily, monthly)]
    async with process(valkey.url) as gateway:
        run = await gateway.admit(*charges)

        async def without(place, act):
            gateway.events.replaced.clear()
            with valkey.client() as client:
                spoil(client, charges[place].key, "hash")
            act()
            await until(lambda: gateway.events.replaced)
            await gateway.limiter.outbox.flush()
            await gateway.limiter.client.call(PING)
            assert gateway.events.replaced == [(charges[place].key, "hash")]

        with valkey.client() as client:
            client.delete(charges[1].key)
            await without(0, gateway.limiter._renew)
            assert [client.zcard(charge.key) for charge in charges[:2]] == [1, 1]
        await without(2, lambda: run.settle(100))
        await without(0, run.release)
        left = await gateway.limiter.peek(charges)
        assert [status.remaining for status in left] == [5, 5, 910, 900]
        assert (gateway.events.failed, gateway.events.changed) == ([], [(True, "")])


async def test_a_conversation_whose_lock_has_a_wrong_type_can_be_acquired(valkey):
    async with process(valkey.url, "a") as a, process(valkey.url, "b") as b:
        (await a.locks.acquire(KEY, 0))()
        await a.limiter.outbox.flush()
        with valkey.client() as client:
            release = await a.locks.acquire(KEY, 0)
            (key,) = client.keys("*:turn")
            spoil(client, key, "list")
        release = await b.locks.acquire(("http://flowise", "chat-1"), 0)
        assert b.events.replaced == [(key.decode(), "list")]
        assert (b.events.failed, b.events.changed) == ([], [(True, "")])
        release()


async def test_a_key_that_is_found_while_catching_up_is_replaced_too(own_valkey):
    one = slots(5)
    async with process(own_valkey.url) as gateway:
        runs = [await gateway.admit(one.charge(who)) for who in (ME, YOU)]
        gateway.limiter.client.give_up(StoreError("timeout"))
        with own_valkey.client() as client:
            spoil(client, one.charge(ME).key, "string")
            client.delete(one.charge(YOU).key)
        await until(lambda: gateway.limiter.client.is_up)
        with own_valkey.client() as client:
            assert [client.zcard(one.charge(who).key) for who in (ME, YOU)] == [1, 1]
        assert gateway.events.replaced == [(one.charge(ME).key, "string")]
        for run in runs:
            run.release()


def documented_rights():
    """The rights of a user of the store, from the documentation."""
    text = (Path(__file__).parents[3] / "config" / "README.md").read_text()
    (rights,) = re.findall(r"A dedicated user needs `([^`]+)`", text)
    return rights


async def test_a_user_with_the_documented_rights_can_do_everything(own_valkey):
    url = own_valkey.url.replace("redis://", "redis://gateway:p@")
    charges = [quota.charge(ME) for quota in QUOTAS.values()]
    with own_valkey.client() as client:
        client.execute_command(*f"ACL SETUSER gateway on >p {documented_rights()}".split())
        async with process(url) as gateway:
            assert gateway.events.changed == [(True, "")]
            run = await gateway.admit(*charges)
            release = await gateway.locks.acquire(KEY, 0)
            gateway.tick()
            spoil(client, charges[0].key, "hash")
            assert (await gateway.admit(*charges)).is_in_store
            await gateway.limiter.peek(charges)
            run.settle(5)
            run.release()
            release()
            await gateway.limiter.outbox.flush()
            assert (gateway.events.failed, len(gateway.events.replaced)) == ([], 1)
            assert gateway.events.changed == [(True, "")]


@pytest.mark.parametrize("is_closed", [False, True], ids=["local", "closed"])
async def test_a_key_that_cannot_be_deleted_fails_its_own_requests_only(own_valkey, is_closed):
    """The user of the store may not delete it. It is reported once, and the store stays up."""
    five = requests(5)
    with own_valkey.client() as client:
        client.execute_command(*f"ACL SETUSER gateway on >p {documented_rights()} -unlink".split())
        url = own_valkey.url.replace("redis://", "redis://gateway:p@")
        async with process(url, is_closed=is_closed) as gateway:
            spoil(client, five.charge(ME).key, "hash")
            for _ in range(5):
                if is_closed:
                    with pytest.raises(StoreUnavailable):
                        await gateway.admit(five.charge(ME))
                else:
                    run = await gateway.admit(five.charge(ME))
                    assert (run.is_allowed, run.is_local) == (True, True)
                assert (await gateway.admit(five.charge(YOU))).is_in_store
            assert (await gateway.admit(five.charge(YOU))).refused == ("burst",)
            assert set(gateway.events.failed) == {"key"}
            assert (gateway.events.replaced, gateway.events.changed) == ([], [(True, "")])
            assert gateway.events.broken == [five.charge(ME).key]


async def test_many_requests_for_one_broken_key_at_once_all_count(valkey):
    five = requests(5)
    async with process(valkey.url) as gateway:
        with valkey.client() as client:
            spoil(client, five.charge(ME).key, "set")
        runs = await asyncio.gather(*(gateway.admit(five.charge(ME)) for _ in range(20)))
        assert sum(run.is_allowed for run in runs) == 5
        assert "key" not in gateway.events.failed


@pytest.mark.parametrize(
    "content", ["nonsense", "5", "9" * 400 + " 5", "5 " + "9" * 400, "-5 5", "1e9 1", "", "5 5 5"]
)
async def test_a_bucket_with_an_impossible_content_locks_nothing_for_ever(valkey, content):
    """The kind is right, the text is not."""
    five = requests(5)
    async with process(valkey.url) as gateway:
        with valkey.client() as client:
            client.set(five.charge(ME).key, content)
        run = await gateway.admit(five.charge(ME))
        assert "reply" not in gateway.events.failed
        assert gateway.events.changed == [(True, "")]
        assert run.is_allowed or run.statuses[0].reset is not None
