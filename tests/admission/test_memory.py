"""The memory store: all or nothing, and quick."""

from __future__ import annotations

from time import process_time

import pytest

from gateway.admission.gcra import SECOND
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


def test_all_is_spent_or_nothing(store):
    asks = [
        requests(5).ask(subject("me")),
        tokens(1000, reserve=100).ask(subject("me")),
        slots(1).ask(subject("me")),
    ]
    first = store.step(asks, "run 1")
    assert first == (True, [12 * SECOND, 8_640_000_000, 1])
    assert store.step(asks, "run 2") == (False, first.used)
    assert store.peek(asks) == first.used
    store.release([asks[2].key], "run 1")
    assert store.step(asks, "run 2").is_allowed


def test_subjects_have_buckets_of_their_own(store):
    one = requests(1)
    assert store.step([one.ask(subject("me"))], "1").is_allowed
    assert not store.step([one.ask(subject("me"))], "2").is_allowed
    assert store.step([one.ask(subject("you"))], "3").is_allowed


def test_settled_to_the_true_count(store, clock):
    daily = tokens(100, per=100.0, reserve=10)
    ask = daily.ask(subject("me"), question=40)
    assert daily.rule.standing(store.step([ask], "1").used[0]).remaining == 80
    store.settle({ask.key: daily.rule.cost(150) - ask.cost})
    assert daily.rule.standing(store.peek([ask])[0]) == (0, 51.0, 51.0, 150.0)
    store.settle({ask.key: -daily.rule.cost(10_000)})
    assert store.peek([ask]) == [0]
    clock.now += SECOND
    assert store.peek([ask]) == [0]


def test_slots_are_renewed_and_end(store, clock):
    ask = slots(1).ask(subject("me"))
    store.step([ask], "1")
    clock.now = LEASE - 1
    store.renew([(ask.key, "1")])
    clock.now = LEASE
    assert not store.step([ask], "2").is_allowed
    clock.now = 2 * LEASE - 1
    assert store.step([ask], "2").is_allowed


def test_idle_buckets_are_forgotten(store, clock):
    store.step([requests(60).ask(subject("me")), slots(1).ask(subject("me"))], "1")
    assert len(store) == 2
    clock.now = SECOND
    store.sweep()
    assert len(store) == 1
    clock.now = LEASE
    store.renew([])
    assert len(store) == 0


def test_a_clock_that_steps_back_locks_nobody_out(store, clock):
    clock.now = 10**12
    asks = [requests(60).ask(subject("me")), slots(1).ask(subject("me"))]
    for _ in range(60):
        store.step(asks, "1")
        store.release([asks[1].key], "1")
    clock.now = 0
    assert not store.step(asks, "2").is_allowed
    clock.now = SECOND
    assert store.step(asks, "2").is_allowed


def test_the_clock_is_monotonic():
    assert monotonic_microseconds() <= monotonic_microseconds()


def test_four_limits_cost_little():
    """30 µs are promised; a busy machine is given ten times as many here."""
    store = MemoryStore(LEASE)
    kinds = [requests(10**6), tokens(10**8, reserve=10), slots(10**6), requests(10**6, scope="key:k")]
    began = process_time()
    for run in range(500):
        asks = [kind.ask(subject("caller"), 100) for kind in kinds]
        assert store.step(asks, str(run)).is_allowed
        store.release([asks[2].key], str(run))
    assert (process_time() - began) / 500 < 300e-6
