"""An admission: its attributes, and that it settles and releases once."""

from __future__ import annotations

import pytest

from gateway.admission.limiter import Admission
from gateway.admission.quotas import subject
from gateway.admission.store import Decision
from tests.harness.limit_process import requests, slots, tokens


class RecordingLimiter:
    def __init__(self):
        self.entries = []

    def settle(self, admission, count):
        self.entries.append(("settled", count))

    def release(self, admission):
        self.entries.append("released")


CHARGES = [
    requests(60).charge(subject("me")),
    tokens(100, per=100.0).charge(subject("me")),
    slots(2).charge(subject("me")),
]
NOTHING = [0, 0, 0]


def admission(used, *, is_allowed):
    limiter = RecordingLimiter()
    return Admission(limiter, CHARGES, "run", Decision(is_allowed, used)), limiter.entries


def test_it_settles_and_releases_only_once():
    given, entries = admission(NOTHING, is_allowed=True)
    given.settle(5)
    given.release()
    given.settle(7)
    given.release()
    assert entries == [("settled", 5), "released"]


def test_the_order_does_not_matter():
    given, entries = admission(NOTHING, is_allowed=True)
    given.release()
    given.settle(5)
    assert entries == ["released", ("settled", 5)]


def test_a_refused_admission_has_nothing_to_release():
    given, entries = admission([0, 0, 2], is_allowed=False)
    given.settle(5)
    given.release()
    assert entries == []


def test_what_is_left_of_each():
    given, _ = admission([10**6, 40 * 10**6, 1], is_allowed=True)
    assert [status.remaining for status in given.statuses] == [59, 60, 1]
    assert given.slots == (CHARGES[2].key,)
    assert (given.refused, given.retry_after) == ((), 0.0)


def test_a_limit_that_was_just_used_up_has_not_refused():
    given, _ = admission([60 * 10**6, 0, 0], is_allowed=True)
    assert (given.refused, given.retry_after) == ((), 0.0)


@pytest.mark.parametrize(
    ("used", "refused", "retry_after"),
    [
        ([60 * 10**6, 0, 0], ("burst",), 1.0),
        ([59 * 10**6 + 1, 0, 0], ("burst",), 1.0),
        ([0, 120 * 10**6, 0], ("daily",), 21.0),
        ([0, 0, 2], ("open",), 1.0),
        ([60 * 10**6, 120 * 10**6, 2], ("burst", "daily", "open"), 21.0),
    ],
)
def test_which_limits_refused_and_when_it_would_pass(used, refused, retry_after):
    given, _ = admission(used, is_allowed=False)
    assert (given.refused, given.retry_after) == (refused, retry_after)
