"""GCRA: what any window admits, what debt means, and what status reports."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission.gcra import (
    MAX_USED,
    SECOND,
    Correction,
    adjusted,
    drained,
    request_rule,
    slot_rule,
    token_rule,
)

amounts = st.integers(1, 1000)
times = st.sampled_from([0.5, 1.0, 7.0, 60.0, 3600.0])


class Bucket:
    """One bucket, as a store keeps it."""

    def __init__(self, rule):
        self.rule, self.used, self.since = rule, 0, 0

    def charge(self, now, units=1):
        self.used, self.since = drained(self.used, self.since, now), now
        if self.used + self.rule.need > self.rule.depth:
            return False
        self.used += self.rule.cost(units)
        return True

    def status(self, now):
        return self.rule.status(drained(self.used, self.since, now))


def moments(gaps):
    now = 0
    for gap in gaps:
        now += gap
        yield now


@settings(max_examples=60)
@given(amounts, times, st.none() | st.integers(1, 50), st.lists(st.integers(0, 3_000_000), max_size=40))
def test_no_window_admits_more_than_burst_and_rate(amount, per, burst, gaps):
    bucket = Bucket(request_rule(amount, per, burst))
    passed = [now for now in moments(gaps) if bucket.charge(now)]
    for first, begin in enumerate(passed):
        for last in range(first, len(passed)):
            window = (passed[last] - begin) / SECOND
            assert last - first + 1 <= (burst or amount) + window * amount / per + 1e-9


@settings(max_examples=60)
@given(amounts, times, st.none() | st.integers(1, 50))
def test_the_burst_passes_at_once_and_not_one_more(amount, per, burst):
    bucket = Bucket(request_rule(amount, per, burst))
    assert sum(bucket.charge(5) for _ in range((burst or amount) + 3)) == (burst or amount)


def test_sixty_a_minute_is_one_more_each_second():
    bucket = Bucket(request_rule(60, 60.0))
    assert all(bucket.charge(0) for _ in range(60))
    assert not bucket.charge(SECOND - 1)
    assert bucket.charge(SECOND)
    assert not bucket.charge(SECOND)


@settings(max_examples=60)
@given(amounts, times, st.lists(st.integers(0, 3_000_000), max_size=20))
def test_after_retry_after_one_passes_and_a_microsecond_earlier_none(amount, per, gaps):
    bucket = Bucket(request_rule(amount, per))
    now = 0
    for now in moments(gaps):
        bucket.charge(now)
    wait = round(bucket.status(now).retry_after * SECOND)
    if wait:
        assert not bucket.charge(now + wait - 1)
    assert bucket.charge(now + wait)


@settings(max_examples=60)
@given(amounts, times, st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(0, 5000)), max_size=20))
def test_a_run_passes_while_a_whole_token_is_left_and_its_full_cost_is_charged(amount, per, runs):
    rule = token_rule(amount, per)
    bucket, taken, now = Bucket(rule), 0, 0
    for gap, units in runs:
        now += gap
        left = bucket.status(now).remaining
        passed = bucket.charge(now, units)
        assert passed == (left >= 1)
        taken += units if passed else 0
    assert taken <= amount + now / SECOND * amount / per + 5000
    wait = round(bucket.status(now).retry_after * SECOND)
    assert bucket.charge(now + wait, 0)


def test_a_caller_in_debt_waits_it_out():
    bucket = Bucket(token_rule(100, 10.0))
    assert bucket.charge(0, 350)
    status = bucket.status(0)
    assert (status.remaining, bucket.used) == (0, 35 * SECOND)
    assert status.retry_after == status.reset == pytest.approx(25.1)
    assert not bucket.charge(25 * SECOND)
    assert bucket.charge(25_100_000)


@given(st.integers(1, 999_999_999), st.integers(1, 10**7), st.integers(0, 10**6))
def test_every_rounding_is_against_the_caller(amount, per, units):
    whole = per * SECOND
    for rule in (request_rule(amount, per), token_rule(amount, per)):
        assert rule.cost(units) * amount >= min(units * whole, MAX_USED * amount)
        assert rule.need * amount >= whole
        assert (rule.need - 1) * amount < whole


@given(st.integers(0, 10**9), st.integers(-(10**9), 10**9))
def test_a_settlement_refunds_up_to_full_and_charges_into_debt(used, difference):
    after = adjusted(used, Correction(difference))
    assert after == max(0, used + difference)


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.integers(0, 10**15), st.integers(0, 10**15))
def test_the_longest_debt_of_tokens_is_the_window_of_the_limit(amount, per, used, units):
    rule = token_rule(amount, per)
    after = adjusted(min(used, rule.most_used), Correction(rule.cost(units), rule.most_used))
    assert rule.status(after).retry_after <= per
    assert rule.status(rule.most_used).retry_after == per
    assert request_rule(amount, per).most_used == MAX_USED


@given(st.integers(1, 999_999_999), st.floats(0.001, 1e9), st.integers(0, 10**18))
def test_numbers_stay_exact_in_lua(amount, per, units):
    for rule in (request_rule(amount, per), request_rule(amount, per, 999_999_999), token_rule(amount, per)):
        assert 0 < rule.need <= rule.depth <= MAX_USED
        assert adjusted(MAX_USED, Correction(rule.cost(units))) <= MAX_USED
        assert MAX_USED + rule.cost(units) <= 2**53
        status = rule.status(min(MAX_USED, rule.cost(units)))
        assert status.remaining >= 0 <= status.retry_after
        assert status.reset > 0


@given(amounts, times, st.integers(0, 10**8))
def test_one_more_is_left_after_the_reset_and_not_before(amount, per, used):
    for rule in (request_rule(amount, per), token_rule(amount, per)):
        now = rule.status(used)
        reset = round(now.reset * SECOND)
        assert rule.status(used - reset).remaining == now.remaining + 1
        assert rule.status(used - reset + 1).remaining == now.remaining
        assert now.retry_after in (0.0, now.reset)


def test_slots_are_counted():
    rule = slot_rule(2)
    assert [rule.status(used) for used in (0, 1, 2, 5)] == [
        (2, None, 0.0),
        (1, None, 0.0),
        (0, None, 1.0),
        (0, None, 1.0),
    ]


def test_a_clock_that_steps_back_drains_nothing_and_adds_nothing():
    assert drained(1000, 5000, 4000) == 1000
    assert drained(1000, 5000, 5400) == 600
    assert drained(1000, 5000, 10**12) == 0
