"""Lines that clients can cause any number of: none is lost, and few are written."""

from __future__ import annotations

import pytest

from gateway.telemetry.repeats import EVERY, MOST, Repeats


class Lines(list):
    """A logger that records; of each line the address and the number of those left out."""

    def warning(self, event, **fields):
        assert event == "failed"
        self.append((fields["client"], fields.get("count")))


@pytest.fixture
def lines():
    return Lines()


@pytest.fixture
def repeats(lines):
    return Repeats(lines)


def fail(repeats, now, client="a", kind="x"):
    repeats("failed", kind, client, now, client=client)


def test_the_first_is_written_at_once_and_the_number_of_others_each_minute(repeats, lines):
    for at in range(10):
        fail(repeats, at)
    repeats.tick(EVERY - 1)
    assert lines == [("a", None)]
    repeats.tick(EVERY)
    assert lines[1:] == [("a", 9)]
    fail(repeats, EVERY + 1)
    repeats.tick(EVERY + 2)
    assert len(lines) == 2
    repeats.tick(2 * EVERY)
    assert lines[2:] == [("a", 1)]


def test_what_has_not_happened_for_a_minute_is_new_again(repeats, lines):
    fail(repeats, 0)
    repeats.tick(EVERY)
    fail(repeats, EVERY)
    assert lines == [("a", None)] * 2


def test_addresses_and_kinds_have_lines_of_their_own(repeats, lines):
    for kind in "xyxy":
        for client in "ab":
            fail(repeats, 0, client, kind)
    assert lines == [("a", None), ("b", None)] * 2
    repeats.close()
    assert lines[4:] == [("a", 1), ("b", 1)] * 2


def test_more_addresses_than_are_told_apart_are_counted_together(repeats, lines):
    for client in range(3 * MOST):
        fail(repeats, 0, str(client))
    assert len(lines) == MOST + 1
    assert lines[-1] == ("others", None)
    repeats.tick(EVERY)
    assert lines[MOST + 1 :] == [("others", 2 * MOST - 1)]
    repeats.tick(2 * EVERY)
    fail(repeats, 2 * EVERY, "new")
    assert lines[-1] == ("new", None)


def test_a_flood_of_one_kind_hides_no_address_of_another(repeats, lines):
    for client in range(2 * MOST):
        fail(repeats, 0, str(client), "x")
    fail(repeats, 0, "new", "y")
    assert lines[-2:] == [("others", None), ("new", None)]


def test_the_end_loses_none(repeats, lines):
    for _ in range(3):
        fail(repeats, 0)
    repeats.close()
    repeats.close()
    assert lines == [("a", None), ("a", 2)]
