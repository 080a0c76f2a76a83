"""When a server is up, out, or tried: single steps, and properties over any sequence of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.standing import Rules, Standing, most_out, too_many

RULES = Rules(fall=3, rise=2, failures=3, within=30.0, out_for=10.0, most=0.5)


def failed(standing, *times, others=(), rules=RULES):
    return [standing.failed(rules, now, "refused", [standing, *others]) for now in times]


def out(at=0.0):
    """A server that is ejected, among two."""
    standing = Standing()
    assert failed(standing, at, at, at, others=[Standing()])[-1]
    return standing


def test_failures_in_a_row_eject():
    standing, other = Standing(), Standing()
    assert failed(standing, 0, 1, 2, others=[other]) == [False, False, True]
    assert (standing.is_up, standing.is_ejected, standing.reason) == (False, True, "refused")
    assert [standing.may_be_used(now) for now in (2, 11.9, 12, 20)] == [False, False, True, True]


def test_an_answer_between_them_begins_anew():
    standing, other = Standing(), Standing()
    failed(standing, 0, 1, others=[other])
    standing.succeeded()
    assert failed(standing, 2, 3, 4, others=[other]) == [False, False, True]


def test_failures_over_a_longer_time_do_not():
    standing, other = Standing(), Standing()
    assert failed(standing, 0, 20, 31, others=[other]) == [False, False, False]
    assert failed(standing, 40, others=[other]) == [True]


@pytest.mark.parametrize(
    ("most", "count", "allowed"),
    [(0.5, 1, 0), (0.5, 2, 1), (0.5, 3, 1), (1.0, 2, 2), (0.0, 9, 0), (0.29, 100, 29), (0.34, 3, 1)],
)
def test_how_many_may_be_out(most, count, allowed):
    assert most_out(Rules(3, 2, 3, 30.0, 10.0, most), count) == allowed


def test_the_only_server_is_not_ejected():
    standing = Standing()
    assert failed(standing, *range(20)) == [False] * 20
    assert standing.is_up


def test_a_server_that_checks_have_taken_out_counts_as_out():
    down, standing = Standing(), Standing()
    for _ in range(3):
        down.checked(RULES, "timed out")
    assert failed(standing, 0, 1, 2, others=[down]) == [False, False, False]


def test_what_began_before_an_ejection_changes_nothing():
    standing = out()
    assert failed(standing, 1, others=[Standing()]) == [False]
    standing.succeeded()
    assert not standing.is_up


def test_a_request_that_tries_it_brings_it_back():
    standing = out()
    standing.try_it()
    assert not standing.may_be_used(11)
    assert standing.tried(RULES, 11, "")
    assert (standing.is_up, standing.is_tried) == (True, False)


def test_a_request_that_tries_it_in_vain_begins_the_time_again():
    standing = out()
    standing.try_it()
    assert not standing.tried(RULES, 11, "timed out")
    assert (standing.is_up, standing.reason) == (False, "timed out")
    assert [standing.may_be_used(now) for now in (20.9, 21)] == [False, True]


def test_a_request_that_shows_nothing_leaves_it_to_the_next_one():
    standing = out()
    standing.try_it()
    standing.not_tried()
    assert standing.may_be_used(11)


def test_checks_take_it_out_and_bring_it_back():
    standing = Standing()
    assert [standing.checked(RULES, "timed out") for _ in range(3)] == [False, False, True]
    assert (standing.is_up, standing.may_be_used(1e9), standing.reason) == (False, False, "timed out")
    assert [standing.checked(RULES, "") for _ in range(2)] == [False, True]
    assert standing.is_up


def test_checks_in_a_row_only():
    standing = Standing()
    for _ in range(5):
        assert not standing.checked(RULES, "x")
        assert not standing.checked(RULES, "x")
        assert not standing.checked(RULES, "")
    assert standing.is_up


def test_a_request_that_got_an_answer_while_all_are_down_ends_what_checks_said():
    standing = Standing()
    for _ in range(3):
        standing.checked(RULES, "x")
    standing.try_it()
    assert standing.tried(RULES, 1, "")
    assert standing.is_up


def test_of_fewer_servers_fewer_may_be_out():
    standings = [out(at) for at in (3, 1, 2)]
    assert too_many(RULES, [*standings, *(Standing() for _ in range(3))]) == []
    assert too_many(RULES, [*standings, Standing()]) == [standings[1]]
    assert too_many(RULES, standings) == [standings[1], standings[2]]


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(
            ["failed", "succeeded", "begin", "end", "end badly", "leave", "check", "bad check", "remove"]
        ),
        st.floats(0, 20),
    ),
    max_size=150,
)


@given(EVENTS, st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]), st.integers(1, 5))
def test_never_more_than_most_are_ejected_and_at_most_one_request_tries_a_server(events, most, count):
    rules = Rules(2, 1, 2, 30.0, 10.0, most)
    standings = [Standing() for _ in range(count)]
    trying = dict.fromkeys(range(count), 0)
    now = 0.0
    for number, event, passed in events:
        now += passed
        if number >= len(standings):
            continue
        standing = standings[number]
        if event == "failed":
            standing.failed(rules, now, "x", standings)
        elif event == "succeeded":
            standing.succeeded()
        elif event == "begin" and standing.may_be_used(now) and not standing.is_up:
            standing.try_it()
            trying[number] += 1
        elif event in ("end", "end badly", "leave") and trying[number]:
            trying[number] -= 1
            if event == "leave":
                standing.not_tried()
            else:
                standing.tried(rules, now, "" if event == "end" else "x")
        elif event in ("check", "bad check"):
            standing.checked(rules, "x" if event == "bad check" else "")
        elif event == "remove" and number == len(standings) - 1 and len(standings) > 1 and not trying[number]:
            standings.pop()
            for other in too_many(rules, standings):
                other.restore()
        assert sum(one.is_ejected for one in standings) <= most * len(standings)
        assert all(trying[one] <= 1 for one in trying)
        assert all(standings[one].is_tried == bool(trying[one]) for one in range(len(standings)))
