"""The scripts on a real Valkey: the same decisions as in memory, atomic, idempotent, on the server's clock."""

from __future__ import annotations

import asyncio
import hashlib
from time import time

import pytest

from gateway.admission.gcra import MAX_USED, SECOND, Correction
from gateway.admission.quotas import subject
from gateway.admission.redis.commands import (
    PING,
    LimitCommands,
    LockCommands,
    Script,
    parse_decision,
    parse_numbers,
)
from tests.harness.limit_histories import (
    LEASE,
    BothStores,
    histories,
    histories_of_any_clock,
    never_forget,
    play_all,
)
from tests.harness.limit_process import requests, slots, tokens

TALK = ("http://flowise", "chat-1")


@pytest.fixture
def client(valkey):
    with valkey.client() as client:
        yield client


@pytest.fixture
def run_command(client):
    """`run_command(command)`: the reply of the server."""
    return lambda command: client.execute_command(*command.words)


@pytest.fixture
def limits(run_command):
    script = Script("limits.lua")
    run_command(asyncio.run(script.load()))
    return LimitCommands(script, LEASE)


@pytest.fixture
def lock(run_command):
    script = Script("conversation_lock.lua")
    run_command(asyncio.run(script.load()))
    return lambda act, token, **options: run_command(
        LockCommands(script, 30.0, 5.0)(act, TALK, token, **options)
    )


def test_both_stores_decide_the_same(client):
    play_all(BothStores(client), histories, 100)


def test_both_stores_decide_the_same_when_clocks_step_back(client, monkeypatch):
    never_forget(monkeypatch)
    play_all(BothStores(client), histories_of_any_clock, 50)


def test_a_script_has_the_digest_that_the_server_computes(client, limits):
    script = Script("conversation_lock.lua")
    loading = asyncio.run(script.load())
    name = client.execute_command(*loading.words).decode()
    run = script.run(["k1", "k2"], "take")
    assert run.words == ("EVALSHA", name, 2, "k1", "k2", "take")
    assert run.in_full == ("EVAL", loading.words[2], 2, "k1", "k2", "take")
    assert name == hashlib.sha1(loading.words[2].encode()).hexdigest()
    assert PING.script == ""


def test_the_time_is_the_servers(client, run_command, limits):
    one = requests(1)
    run_command(limits.admit([one.charge(subject("me"))], "1"))
    _, since = client.get(one.charge(subject("me")).key).split()
    assert abs(int(since) / SECOND - time()) < 5


def test_keys_expire(client, run_command, limits):
    charges = [
        requests(60).charge(subject("me")),
        tokens(100, per=100.0, reserve=10).charge(subject("me")),
        slots(2).charge(subject("me")),
    ]
    run_command(limits.admit(charges, "1"))
    run_command(limits.settle("1", {charges[1].key: Correction(SECOND)}))
    run_command(limits.renew([(slots(2).charge(subject("you")).key, "2")]))
    lives = {key: client.pttl(key) for key in client.scan_iter()}
    assert len(lives) == 5
    assert all(0 < life <= 3_600_000 for life in lives.values())
    assert [round(lives[charge.key.encode()], -3) for charge in charges] == [11_000, 21_000, 13_000]


def test_a_lease_expires_to_the_microsecond_also_after_a_clock_steps_back(run_command, limits):
    charge, hour = slots(5).charge(subject("me")), 3600 * SECOND

    def taken(after):
        limits.now = hour + after
        return parse_numbers(run_command(limits.peek([charge])))[0]

    limits.now = hour
    run_command(limits.admit([charge], "1"))
    assert [taken(LEASE - 1), taken(LEASE)] == [1, 0]
    limits.now = hour
    run_command(limits.admit([charge], "2"))
    assert [taken(-hour + 1), taken(-hour + LEASE), taken(-hour + 1 + LEASE)] == [1, 1, 0]
    limits.now = hour
    run_command(limits.admit([charge], "3"))
    limits.now = 1
    run_command(limits.renew([(charge.key, "4")]))
    assert [taken(-hour + LEASE), taken(-hour + 1 + LEASE)] == [2, 0]


def test_a_repeated_settlement_is_applied_once(client, run_command, limits):
    charge = tokens(100, per=100.0).charge(subject("me"))
    command = limits.settle("run 1", {charge.key: Correction(5 * SECOND)})
    assert [run_command(command), run_command(command)] == [1, 0]
    assert parse_numbers(run_command(limits.peek([charge])))[0] == pytest.approx(5 * SECOND, abs=SECOND)
    run_command(limits.settle("run 2", {charge.key: Correction(5 * SECOND)}))
    assert parse_numbers(run_command(limits.peek([charge])))[0] == pytest.approx(10 * SECOND, abs=SECOND)


def test_the_deepest_debt_is_exact(client, run_command, limits):
    charge = tokens(100, per=100.0).charge(subject("me"))
    run_command(limits.settle("run 1", {charge.key: Correction(MAX_USED)}))
    assert client.get(charge.key).split()[0] == str(MAX_USED).encode()
    run_command(limits.settle("run 2", {charge.key: Correction(MAX_USED)}))
    assert client.get(charge.key).split()[0] == str(MAX_USED).encode()
    assert client.pttl(charge.key) > MAX_USED // 1000


def test_an_unreadable_bucket_counts_as_full(client, run_command, limits):
    charge = requests(1).charge(subject("me"))
    client.set(charge.key, "not a bucket")
    assert parse_decision(run_command(limits.admit([charge], "1")), 1).is_allowed


def test_a_lock_has_one_holder(lock):
    assert lock("take", "a") == b"taken"
    assert lock("take", "a") == b"taken"
    assert lock("take", "b") == b"busy"
    lock("give_back", "b")
    assert lock("take", "b") == b"busy"
    lock("give_back", "a")
    assert lock("take", "b") == b"taken"


def test_one_waits_and_a_third_is_busy(lock):
    lock("take", "a")
    assert lock("take", "b", may_wait=True) == b"waiting"
    assert lock("take", "b", may_wait=True) == b"waiting"
    assert lock("take", "c", may_wait=True) == b"busy"
    assert lock("wait", "c") == b"busy"
    lock("give_back", "a")
    assert lock("take", "c", may_wait=True) == b"waiting"  # now as the waiter, not the holder
    assert lock("take", "b", may_wait=True) == b"taken"
    assert lock("take", "d", may_wait=True) == b"busy"


def test_a_free_lock_is_reserved_for_the_waiter(client, lock):
    lock("take", "a")
    lock("wait", "b")
    client.delete(*[key for key in client.scan_iter() if key.endswith(b":turn")])
    assert lock("take", "c", may_wait=True) == b"busy"
    assert lock("take", "b") == b"taken"


def test_a_waiter_that_leaves_frees_its_place(lock):
    lock("take", "a")
    lock("wait", "b")
    lock("leave", "b")
    assert lock("take", "c", may_wait=True) == b"waiting"
    lock("give_back", "a")
    lock("leave", "c")  # just after the lock was handed to it
    assert lock("take", "d") == b"taken"


def test_a_cancelled_waiter_learns_it_once_and_its_place_is_free(lock):
    lock("take", "a")
    lock("wait", "b")
    lock("call_off", "")
    lock("call_off", "")
    assert lock("keep_waiting", "b") == b"called_off"
    assert lock("take", "b", may_wait=True) == b"called_off"
    assert lock("take", "c", may_wait=True) == b"waiting"


def test_a_cancelled_waiter_does_not_get_the_lock(lock):
    lock("take", "a")
    lock("wait", "b")
    lock("call_off", "")
    lock("give_back", "a")
    assert lock("take", "c") == b"taken"


def test_a_renewal_restores_a_lost_lock_and_steals_none(client, lock):
    lock("take", "a")
    client.flushall()
    assert lock("renew", "a") == b"retaken"
    assert lock("renew", "a") == b"taken"
    assert lock("take", "b") == b"busy"
    assert lock("renew", "b") == b"lost"
    assert lock("take", "a") == b"taken"


def test_locks_and_places_expire(client, lock):
    lock("take", "a")
    lock("wait", "b")
    lives = {key.rpartition(b":")[2]: client.pttl(key) for key in client.scan_iter()}
    assert 25_000 < lives[b"turn"] <= 30_000
    assert 0 < lives[b"next"] <= 5_000
    lock("give_back", "a")
    assert [client.pttl(key) <= 5_000 for key in client.scan_iter()] == [True]
