"""The memory store: all or nothing, and quick."""

from __future__ import annotations

from time import process_time

import pytest

from gateway.admission.gcra import SECOND, Correction
from gateway.admission.memory import MemoryStore, monotonic_microseconds
from gateway.admission.quotas import subject
from tests.harness.limit_process import requests, slots, tokens

LEASE = 30 * SECOND


class Clock:
    now = 0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return MemoryStore(LEASE, clock)


def test_all_charges_are_made_or_none(store):
    charges = [
        requests(5).charge(subject("me")),
        tokens(1000, reserve=100).charge(subject("me")),
        slots(1).charge(subject("me")),
    ]
    first = store.apply(charges, "run 1")
    assert first == (True, [12 * SECOND, 8_640_000_000, 1])
    assert store.apply(charges, "run 2") == (False, first.used)
    assert store.peek(charges) == first.used
    store.release([charges[2].key], "run 1")
    assert store.apply(charges, "run 2").is_allowed


def test_subjects_have_buckets_of_their_own(store):
    one = requests(1)
    assert store.apply([one.charge(subject("me"))], "1").is_allowed
    assert not store.apply([one.charge(subject("me"))], "2").is_allowed
    assert store.apply([one.charge(subject("you"))], "3").is_allowed


def test_settled_to_the_true_count(store, clock):
    daily = tokens(100, per=100.0, reserve=10)
    charge = daily.charge(subject("me"), question=40)
    assert daily.rule.status(store.apply([charge], "1").used[0]).remaining == 80
    store.settle({charge.key: Correction(daily.rule.cost(150) - charge.cost)})
    assert daily.rule.status(store.peek([charge])[0]) == (0, 51.0, 51.0)
    assert store.peek([charge]) == [150 * SECOND]
    store.settle({charge.key: Correction(-daily.rule.cost(10_000))})
    assert store.peek([charge]) == [0]
    clock.now += SECOND
    assert store.peek([charge]) == [0]


def test_slots_are_renewed_and_expire(store, clock):
    charge = slots(1).charge(subject("me"))
    store.apply([charge], "1")
    clock.now = LEASE - 1
    store.renew([(charge.key, "1")])
    clock.now = LEASE
    assert not store.apply([charge], "2").is_allowed
    clock.now = 2 * LEASE - 1
    assert store.apply([charge], "2").is_allowed


def test_idle_buckets_are_forgotten(store, clock):
    store.apply([requests(60).charge(subject("me")), slots(1).charge(subject("me"))], "1")
    assert len(store) == 2
    clock.now = SECOND
    store.sweep()
    assert len(store) == 1
    clock.now = LEASE
    store.renew([])
    assert len(store) == 0


def test_a_clock_that_steps_back_locks_no_caller_out(store, clock):
    clock.now = 10**12
    charges = [requests(60).charge(subject("me")), slots(1).charge(subject("me"))]
    for _ in range(60):
        store.apply(charges, "1")
        store.release([charges[1].key], "1")
    clock.now = 0
    assert not store.apply(charges, "2").is_allowed
    clock.now = SECOND
    assert store.apply(charges, "2").is_allowed


def test_the_clock_is_monotonic():
    assert monotonic_microseconds() <= monotonic_microseconds()


def test_four_limits_cost_little():
    """The aim is 30 µs; ten times that is allowed here, for a busy machine."""
    store = MemoryStore(LEASE)
    kinds = [requests(10**6), tokens(10**8, reserve=10), slots(10**6), requests(10**6, scope="key:k")]
    began = process_time()
    for run in range(500):
        charges = [kind.charge(subject("caller"), 100) for kind in kinds]
        assert store.apply(charges, str(run)).is_allowed
        store.release([charges[2].key], str(run))
    assert (process_time() - began) / 500 < 300e-6
