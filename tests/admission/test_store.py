"""The budget of one request for the store, the error and the listener."""

from __future__ import annotations

import pytest

from gateway.admission.store import MIN_TIMEOUT, STORE_TIMEOUT, StoreBudget, StoreError, StoreListener


def test_each_call_spends_the_budget_and_the_next_one_has_a_minimum():
    budget = StoreBudget()
    budget.spend(0.03)
    assert budget.left == pytest.approx(0.07)
    budget.spend(0.07)
    assert budget.left == MIN_TIMEOUT


def test_after_a_failure_there_is_no_budget():
    budget = StoreBudget()
    budget.exhaust()
    assert budget.left == 0


def test_three_calls_wait_150_ms_at_most():
    assert STORE_TIMEOUT + 2 * MIN_TIMEOUT <= 0.15


def test_the_text_of_an_error_is_its_kind_only():
    assert str(StoreError("timeout")) == "timeout"


def test_a_listener_needs_no_callbacks():
    listener = StoreListener()
    listener.failed("timeout")
    listener.changed(False, "timeout")
    listener.took(0.1)
