"""The breaker: when to drop the connection, and when to reconnect."""

from __future__ import annotations

import pytest

from gateway.admission.redis.pipeline import FAILURES, FIRST_PAUSE, MAX_PAUSE, STEADY, Breaker


def test_failures_in_a_row_open_it():
    breaker = Breaker()
    assert [breaker.failed() for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]


def test_a_reply_in_between_resets_the_count():
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed()
    breaker.succeeded()
    assert not breaker.failed()
    breaker.came_up(0)
    assert not breaker.failed()


def test_pauses_grow_up_to_the_longest():
    breaker = Breaker()
    pauses = [breaker.pause(0, 1.0) for _ in range(10)]
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == MAX_PAUSE


@pytest.mark.parametrize(("random", "pause"), [(0.0, FIRST_PAUSE / 2), (1.0, FIRST_PAUSE)])
def test_pauses_are_random(random, pause):
    assert Breaker().pause(0, random) == pause


def test_only_a_store_that_stays_up_resets_the_pause():
    breaker = Breaker()
    for _ in range(5):
        breaker.pause(0, 1.0)
    breaker.came_up(100)
    assert breaker.pause(100 + STEADY / 2, 1.0) == MAX_PAUSE
    breaker.came_up(200)
    assert breaker.pause(200 + STEADY, 1.0) == FIRST_PAUSE
    assert breaker.pause(200 + 2 * STEADY, 1.0) == 2 * FIRST_PAUSE
