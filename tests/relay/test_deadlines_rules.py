"""Which deadline of a call has passed, as a table."""

from __future__ import annotations

import math

import pytest

from gateway.relay.deadlines import Deadline, Deadlines

NEVER = math.inf
HEADED = {"sent_at": 1.0, "head_at": 2.0, "last_byte_at": 2.0}


def deadlines(**moments):
    """Head within 10 s, first event 20, idle 30, total 100; begun at 0."""
    return Deadlines(
        **{"head": 10.0, "first_event": 20.0, "idle": 30.0, "total": 100.0, "started_at": 0.0, **moments}
    )


@pytest.mark.parametrize(
    ("moments", "now", "passed"),
    [
        ({}, 99, None),  # still waiting for a connection: only `total` runs
        ({}, 101, Deadline.TOTAL),
        ({"sent_at": 5.0}, 15.0, None),  # at the limit it has not passed
        ({"sent_at": 5.0}, 15.1, Deadline.HEAD),
        ({"sent_at": 5.0}, 200, Deadline.HEAD),  # the most telling first
        ({"sent_at": 5.0, "head": NEVER}, 99, None),  # a flow that does not stream
        ({"sent_at": 5.0, "head": NEVER}, 101, Deadline.TOTAL),
        (HEADED, 22.0, None),
        (HEADED, 22.1, Deadline.FIRST_EVENT),
        (HEADED, 33, Deadline.IDLE),
        ({**HEADED, "last_byte_at": 20.0}, 22.1, Deadline.FIRST_EVENT),  # heartbeats are no event
        ({**HEADED, "is_first_event_seen": True}, 32.0, None),
        ({**HEADED, "is_first_event_seen": True}, 32.1, Deadline.IDLE),
        ({**HEADED, "is_first_event_seen": True, "last_byte_at": 90.0}, 101, Deadline.TOTAL),
        ({**HEADED, "is_first_event_seen": True, "is_paused": True}, 99, None),  # not read: not its silence
        ({**HEADED, "is_first_event_seen": True, "is_paused": True}, 101, Deadline.TOTAL),
        ({**HEADED, "is_first_event_seen": True, "idle": NEVER}, 99, None),
    ],
)
def test_passed(moments, now, passed):
    assert deadlines(**moments).passed(now) is passed


@pytest.mark.parametrize(
    ("moments", "now", "is_late"),
    [
        ({}, 50.0, False),
        ({"sent_at": 5.0}, 5.9, False),
        ({"sent_at": 5.0}, 6.0, True),
        (HEADED, 9.0, False),
        ({"sent_at": 5.0, "head": NEVER}, 50.0, False),
    ],
)
def test_a_head_is_late_after_a_second(moments, now, is_late):
    assert deadlines(**moments).is_head_late(now) is is_late


def test_send_counts_while_bytes_wait_and_anew_whenever_some_are_taken():
    clocks = deadlines(send=5.0)
    clocks.sending(100, 50, 1.0)
    clocks.sending(100, 50, 6.0)
    assert clocks.passed(6.0) is None
    assert clocks.passed(6.1) is Deadline.SEND
    clocks.sending(101, 49, 6.2)
    assert clocks.passed(11.2) is None
    assert clocks.passed(11.3) is Deadline.SEND
    clocks.sending(150, 0, 11.4)  # the rest has not come from the client yet
    assert clocks.passed(90.0) is None
    clocks.sending(150, 10, 90.0)
    assert clocks.passed(95.0) is None
    assert clocks.passed(95.1) is Deadline.SEND
    clocks.head_at = clocks.last_byte_at = 95.0  # an early answer
    assert clocks.passed(96.0) is None


def test_idle_is_counted_anew_after_a_pause():
    clocks = deadlines(**HEADED, is_first_event_seen=True)
    clocks.pause()
    assert clocks.passed(90) is None
    clocks.resume(60.0)
    assert clocks.passed(90.0) is None
    assert clocks.passed(90.1) is Deadline.IDLE


@pytest.mark.parametrize(
    ("moments", "moment"),
    [
        (HEADED, 22.0),  # the first event
        ({**HEADED, "is_first_event_seen": True}, 32.0),  # silence
        ({**HEADED, "is_first_event_seen": True, "is_paused": True}, 100.0),
        ({**HEADED, "first_event": NEVER, "idle": NEVER}, 100.0),
        ({**HEADED, "last_byte_at": 95.0, "is_first_event_seen": True}, 100.0),
    ],
)
def test_nothing_of_an_answer_that_has_begun_passes_before_the_next_moment(moments, moment):
    clocks = deadlines(**moments)
    assert clocks.next == moment
    assert clocks.passed(moment) is None
    assert clocks.passed(moment + 0.1) is not None
