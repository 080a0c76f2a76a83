"""Slots in memory: leases that end by themselves."""

from __future__ import annotations

import pytest

from gateway.admission.memory import Leases

LEASE = 100


@pytest.fixture
def slots():
    return Leases(LEASE)


def test_taken_until_given_back(slots):
    slots.take("open", "one", 0)
    slots.take("open", "two", 10)
    assert slots.count("open", 10) == 2
    slots.give_back("open", "one")
    slots.give_back("open", "one")
    slots.give_back("other", "one")
    assert slots.count("open", 10) == 1


def test_buckets_do_not_share(slots):
    slots.take("open", "one", 0)
    assert slots.count("other", 0) == 0


def test_what_is_not_renewed_ends(slots):
    slots.take("open", "one", 0)
    slots.take("open", "two", 50)
    slots.take("open", "one", 60)
    assert [slots.count("open", now) for now in (149, 150, 159, 160)] == [2, 1, 1, 0]


def test_a_renewal_brings_back_what_was_lost(slots):
    slots.take("open", "one", 0)
    assert slots.count("open", 100) == 0
    slots.take("open", "one", 100)
    assert slots.count("open", 199) == 1


def test_nothing_is_left_of_what_is_over(slots):
    slots.take("open", "one", 0)
    slots.take("other", "two", 0)
    slots.give_back("other", "two")
    assert len(slots) == 1
    slots.sweep(LEASE)
    assert len(slots) == 0


def test_a_clock_that_steps_back_holds_no_slot_longer_than_a_lease(slots):
    slots.take("open", "one", 10_000)
    slots.take("open", "two", 10_050)
    assert slots.count("open", 500) == 2
    assert slots.count("open", 599) == 2
    assert slots.count("open", 600) == 0
