"""Slots in memory: leases that expire."""

from __future__ import annotations

import pytest

from gateway.admission.memory import Leases

LEASE = 100


@pytest.fixture
def leases():
    return Leases(LEASE)


def test_held_until_released(leases):
    leases.acquire("open", "one", 0)
    leases.acquire("open", "two", 10)
    assert leases.count("open", 10) == 2
    leases.release("open", "one")
    leases.release("open", "one")
    leases.release("other", "one")
    assert leases.count("open", 10) == 1


def test_buckets_do_not_share(leases):
    leases.acquire("open", "one", 0)
    assert leases.count("other", 0) == 0


def test_a_lease_without_renewal_expires(leases):
    leases.acquire("open", "one", 0)
    leases.acquire("open", "two", 50)
    leases.acquire("open", "one", 60)
    assert [leases.count("open", now) for now in (149, 150, 159, 160)] == [2, 1, 1, 0]


def test_a_renewal_restores_an_expired_lease(leases):
    leases.acquire("open", "one", 0)
    assert leases.count("open", 100) == 0
    leases.acquire("open", "one", 100)
    assert leases.count("open", 199) == 1


def test_released_and_expired_leases_take_no_memory(leases):
    leases.acquire("open", "one", 0)
    leases.acquire("other", "two", 0)
    leases.release("other", "two")
    assert len(leases) == 1
    leases.sweep(LEASE)
    assert len(leases) == 0


def test_a_clock_that_steps_back_holds_no_slot_longer_than_a_lease(leases):
    leases.acquire("open", "one", 10_000)
    leases.acquire("open", "two", 10_050)
    assert leases.count("open", 500) == 2
    assert leases.count("open", 599) == 2
    assert leases.count("open", 600) == 0
