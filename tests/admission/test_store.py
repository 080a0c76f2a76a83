"""Patience: what one request may wait for the store in all."""

from __future__ import annotations

import pytest

from gateway.admission.store import LATER_STEP, STORE_TIME, StoreBudget, StoreError, StoreListener


def test_each_step_takes_from_the_whole_and_leaves_a_little_for_the_next():
    patience = StoreBudget()
    patience.waited(0.03)
    assert patience.left == pytest.approx(0.07)
    patience.waited(0.07)
    assert patience.left == LATER_STEP


def test_after_a_failure_nobody_waits_again():
    patience = StoreBudget()
    patience.end()
    assert patience.left == 0


def test_three_steps_never_wait_above_the_promise():
    assert STORE_TIME + 2 * LATER_STEP <= 0.15


def test_an_error_says_its_kind_and_nothing_else():
    assert str(StoreError("timeout")) == "timeout"


def test_nobody_needs_to_listen():
    reports = StoreListener()
    reports.failed("timeout")
    reports.changed(False, "timeout")
    reports.took(0.1)
