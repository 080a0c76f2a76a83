"""Backoff and crash loops."""

from __future__ import annotations

from itertools import count

from gateway.server.worker_process import DEATHS, UNREADY, WITHIN, RestartPolicy


def delays(times, *, was_ready=True):
    restarts = RestartPolicy()
    return [restarts.died(at, was_ready=was_ready) for at in times]


def test_each_death_doubles_the_wait_and_the_fifth_within_a_minute_is_a_crash_loop():
    assert delays([0.0, 10.0, 20.0, 30.0, 59.9]) == [0.2, 0.4, 0.8, 1.6, None]


def test_deaths_of_long_ago_are_forgotten():
    assert delays([0.0, 10.0, 20.0, 30.0, 60.0]) == [0.2, 0.4, 0.8, 1.6, 1.6]
    assert delays(at * WITHIN for at in range(10)) == [0.2] * 10


def test_rare_deaths_are_never_a_crash_loop():
    gap = WITHIN / (DEATHS - 1) + 0.1
    assert None not in delays(at * gap for at in range(100))


def test_three_deaths_in_a_row_before_it_was_ready_are_a_crash_loop_however_long_they_take():
    assert delays([0.0, 100.0, 200.0], was_ready=False) == [0.2, 0.2, None]


def test_being_ready_once_resets_the_count():
    restarts, clock = RestartPolicy(), count(0, 100)
    for _ in range(5):
        for was_ready in [*[False] * (UNREADY - 1), True]:
            assert restarts.died(next(clock), was_ready=was_ready) is not None
