"""Patience: what one request may wait for the store in all."""

from __future__ import annotations

import pytest

from gateway.admission.store import MIN_TIMEOUT, STORE_TIMEOUT, StoreBudget, StoreError, StoreListener


def test_each_step_takes_from_the_whole_and_leaves_a_little_for_the_next():
    budget = StoreBudget()
    budget.spend(0.03)
    assert budget.left == pytest.approx(0.07)
    budget.spend(0.07)
    assert budget.left == MIN_TIMEOUT


def test_after_a_failure_nobody_waits_again():
    budget = StoreBudget()
    budget.exhaust()
    assert budget.left == 0


def test_three_steps_never_wait_above_the_promise():
    assert STORE_TIMEOUT + 2 * MIN_TIMEOUT <= 0.15


def test_an_error_says_its_kind_and_nothing_else():
    assert str(StoreError("timeout")) == "timeout"


def test_nobody_needs_to_listen():
    listener = StoreListener()
    listener.failed("timeout")
    listener.changed(False, "timeout")
    listener.took(0.1)
