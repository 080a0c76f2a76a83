"""The scripts on a real Valkey: the same decisions as in memory, once, all or nothing, on the server's clock."""

from __future__ import annotations

import asyncio
import hashlib
from time import time

import pytest

from gateway.admission.gcra import MAX_USED, SECOND
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
    play_all,
    remember_what_is_over,
)
from tests.harness.limit_process import requests, slots, tokens

TALK = ("http://flowise", "chat-1")


@pytest.fixture
def client(valkey):
    with valkey.client() as client:
        yield client


@pytest.fixture
def tell(client):
    """`tell(command)`: what the server answers."""
    return lambda command: client.execute_command(*command.words)


@pytest.fixture
def limits(tell):
    script = Script("limits.lua")
    tell(asyncio.run(script.load()))
    return LimitCommands(script, LEASE)


@pytest.fixture
def lock(tell):
    script = Script("conversation_lock.lua")
    tell(asyncio.run(script.load()))
    return lambda act, token, **options: tell(LockCommands(script, 30.0, 5.0)(act, TALK, token, **options))


def test_both_stores_decide_the_same(client):
    play_all(BothStores(client), histories, 100)


def test_both_stores_decide_the_same_when_clocks_step_back(client, monkeypatch):
    remember_what_is_over(monkeypatch)
    play_all(BothStores(client), histories_of_any_clock, 50)


def test_a_script_goes_by_the_name_that_the_server_gives_it(client, limits):
    script = Script("conversation_lock.lua")
    loading = asyncio.run(script.load())
    name = client.execute_command(*loading.words).decode()
    run = script.run(["k1", "k2"], "take")
    assert run.words == ("EVALSHA", name, 2, "k1", "k2", "take")
    assert run.in_full == ("EVAL", loading.words[2], 2, "k1", "k2", "take")
    assert name == hashlib.sha1(loading.words[2].encode()).hexdigest()
    assert PING.script == ""


def test_the_time_is_the_servers(client, tell, limits):
    one = requests(1)
    tell(limits.admit([one.charge(subject("me"))], "1"))
    _, since = client.get(one.charge(subject("me")).key).split()
    assert abs(int(since) / SECOND - time()) < 5


def test_keys_go_away_by_themselves(client, tell, limits):
    charges = [
        requests(60).charge(subject("me")),
        tokens(100, per=100.0, reserve=10).charge(subject("me")),
        slots(2).charge(subject("me")),
    ]
    tell(limits.admit(charges, "1"))
    tell(limits.settle("1", {charges[1].key: SECOND}))
    tell(limits.renew([(slots(2).charge(subject("you")).key, "2")]))
    lives = {key: client.pttl(key) for key in client.scan_iter()}
    assert len(lives) == 5
    assert all(0 < life <= 3_600_000 for life in lives.values())
    assert [round(lives[charge.key.encode()], -3) for charge in charges] == [11_000, 21_000, 13_000]


def test_a_lease_ends_to_the_microsecond_and_a_clock_that_steps_back_holds_it_no_longer(tell, limits):
    charge, hour = slots(5).charge(subject("me")), 3600 * SECOND

    def taken(after):
        limits.now = hour + after
        return parse_numbers(tell(limits.peek([charge])))[0]

    limits.now = hour
    tell(limits.admit([charge], "1"))
    assert [taken(LEASE - 1), taken(LEASE)] == [1, 0]
    limits.now = hour
    tell(limits.admit([charge], "2"))
    assert [taken(-hour + 1), taken(-hour + LEASE), taken(-hour + 1 + LEASE)] == [1, 1, 0]
    limits.now = hour
    tell(limits.admit([charge], "3"))
    limits.now = 1
    tell(limits.renew([(charge.key, "4")]))
    assert [taken(-hour + LEASE), taken(-hour + 1 + LEASE)] == [2, 0]


def test_a_settlement_is_done_once_however_often_it_comes(client, tell, limits):
    charge = tokens(100, per=100.0).charge(subject("me"))
    command = limits.settle("run 1", {charge.key: 5 * SECOND})
    assert [tell(command), tell(command)] == [1, 0]
    assert parse_numbers(tell(limits.peek([charge])))[0] == pytest.approx(5 * SECOND, abs=SECOND)
    tell(limits.settle("run 2", {charge.key: 5 * SECOND}))
    assert parse_numbers(tell(limits.peek([charge])))[0] == pytest.approx(10 * SECOND, abs=SECOND)


def test_the_deepest_debt_is_exact(client, tell, limits):
    charge = tokens(100, per=100.0).charge(subject("me"))
    tell(limits.settle("run 1", {charge.key: MAX_USED}))
    assert client.get(charge.key).split()[0] == str(MAX_USED).encode()
    tell(limits.settle("run 2", {charge.key: MAX_USED}))
    assert client.get(charge.key).split()[0] == str(MAX_USED).encode()
    assert client.pttl(charge.key) > MAX_USED // 1000


def test_what_is_no_level_counts_as_nothing_used(client, tell, limits):
    charge = requests(1).charge(subject("me"))
    client.set(charge.key, "what is this")
    assert parse_decision(tell(limits.admit([charge], "1"))).is_allowed


def test_a_turn_has_one_holder(lock):
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
    assert lock("take", "c", may_wait=True) == b"waiting"  # it is the one of the queue now, not the holder
    assert lock("take", "b", may_wait=True) == b"taken"
    assert lock("take", "d", may_wait=True) == b"busy"


def test_a_free_turn_belongs_to_the_one_who_waits(client, lock):
    lock("take", "a")
    lock("wait", "b")
    client.delete(*[key for key in client.scan_iter() if key.endswith(b":turn")])
    assert lock("take", "c", may_wait=True) == b"busy"
    assert lock("take", "b") == b"taken"


def test_who_leaves_is_not_waited_for(lock):
    lock("take", "a")
    lock("wait", "b")
    lock("leave", "b")
    assert lock("take", "c", may_wait=True) == b"waiting"
    lock("give_back", "a")
    lock("leave", "c")  # in the moment in which it was handed the turn
    assert lock("take", "d") == b"taken"


def test_a_called_off_one_is_told_once_and_its_place_is_free(lock):
    lock("take", "a")
    lock("wait", "b")
    lock("call_off", "")
    lock("call_off", "")
    assert lock("keep_waiting", "b") == b"called_off"
    assert lock("take", "b", may_wait=True) == b"called_off"
    assert lock("take", "c", may_wait=True) == b"waiting"


def test_a_called_off_one_does_not_get_the_turn(lock):
    lock("take", "a")
    lock("wait", "b")
    lock("call_off", "")
    lock("give_back", "a")
    assert lock("take", "c") == b"taken"


def test_a_renewal_brings_a_lost_turn_back_and_takes_none_away(client, lock):
    lock("take", "a")
    client.flushall()
    assert lock("renew", "a") == b"taken"
    assert lock("take", "b") == b"busy"
    assert lock("renew", "b") == b"lost"
    assert lock("take", "a") == b"taken"


def test_turns_and_places_go_away_by_themselves(client, lock):
    lock("take", "a")
    lock("wait", "b")
    lives = {key.rpartition(b":")[2]: client.pttl(key) for key in client.scan_iter()}
    assert 25_000 < lives[b"turn"] <= 30_000
    assert 0 < lives[b"next"] <= 5_000
    lock("give_back", "a")
    assert [client.pttl(key) <= 5_000 for key in client.scan_iter()] == [True]
