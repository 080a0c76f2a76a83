"""The last hour: differences of counters in slots, quantiles as PromQL has them, and bounds."""

from __future__ import annotations

import math

import pytest

from gateway.page.history import MOST_ROUTES, MOST_SERIES, OTHERS, SLOT, SLOTS, History, quantile
from gateway.telemetry.request_counts import Counts

NOW = 1_800_000_000.0
NO_TOKENS = {}


def counts(first_tokens=NO_TOKENS, **by_route):
    """Totals as `support="ok 3, refused 1"`."""
    requests = {}
    for route, text in by_route.items():
        for pair in text.split(", "):
            outcome, count = pair.split()
            requests[route, outcome] = float(count)
    return Counts(requests, first_tokens)


def test_a_look_adds_what_came_since_the_one_before():
    history = History()
    history.take(NOW, counts(a="ok 2"))
    history.take(NOW + 1, counts(a="ok 5, refused 1", b="failed 1"))
    history.take(NOW + SLOT, counts(a="ok 6, refused 1", b="failed 1"))
    slot = int(NOW // SLOT)
    assert dict(history.slots()) == {
        slot: {
            "": {"ok": 5, "refused": 1, "failed": 1},
            "a": {"ok": 5, "refused": 1},
            "b": {"failed": 1},
        },
        slot + 1: {"": {"ok": 1}, "a": {"ok": 1}},
    }
    hour = history.routes()
    assert hour[""].outcomes == {"ok": 6, "refused": 1, "failed": 1}
    assert (hour["a"].outcomes, hour["b"].outcomes) == ({"ok": 6, "refused": 1}, {"failed": 1})


def test_a_page_that_was_turned_on_later_does_not_count_what_came_before():
    history = History(is_from_start=False)
    history.take(NOW, counts(a="ok 100"))
    history.take(NOW + 1, counts(a="ok 101"))
    assert history.routes()["a"].outcomes == {"ok": 1}


def test_what_is_older_than_an_hour_is_forgotten():
    history = History()
    bounds = {0.1: 1, math.inf: 1}
    history.take(NOW, counts({"a": bounds}, a="ok 1"))
    history.take(NOW + (SLOTS - 1) * SLOT, counts({"a": bounds}, a="ok 1"))
    assert history.routes()["a"].p50 == 0.05
    history.take(NOW + SLOTS * SLOT, counts({"a": bounds}, a="ok 1"))
    assert history.routes() == {}
    assert list(history.slots()) == []


def test_the_rows_of_slots_that_have_ended_stay_the_same_objects():
    history = History()
    history.take(NOW, counts(a="ok 1"))
    history.take(NOW + SLOT, counts(a="ok 2"))
    before = dict(history.slots())
    history.take(NOW + SLOT + 1, counts(a="ok 3"))
    after = dict(history.slots())
    first, last = before
    assert before[first] is after[first]
    assert after[last] == {"": {"ok": 2}, "a": {"ok": 2}}


def test_rates_are_those_of_the_last_looks():
    history = History()
    assert history.rates() == {}
    for second in range(20):
        history.take(NOW + second, counts(a=f"ok {second * 3}"))
    assert history.rates() == {"a": pytest.approx(3.0)}


def test_the_routes_with_most_requests_are_drawn():
    history = History()
    many = {f"route-{number:02}": f"ok {number + 1}" for number in range(MOST_ROUTES + 5)}
    history.take(NOW, counts(**many))
    ((_, row),) = history.slots()
    assert list(history.drawn()) == [f"route-{number:02}" for number in range(5, MOST_ROUTES + 5)]
    assert set(row) == {"", *history.drawn()}
    assert row[""]["ok"] == sum(range(1, MOST_ROUTES + 6))


def test_more_series_than_are_kept_are_one_route():
    history = History()
    history.take(NOW, counts(**{f"route-{number}": "ok 1" for number in range(MOST_SERIES + 7)}))
    hour = history.routes()
    assert len(hour) == MOST_SERIES + 2
    assert hour[OTHERS].outcomes == {"ok": 7}
    history.take(NOW + SLOTS * SLOT, counts())
    assert history.routes() == {}


@pytest.mark.parametrize(
    ("share", "bounds", "expected"),
    [
        (0.5, {}, None),
        (0.5, {0.1: 0, math.inf: 0}, None),
        (0.5, {0.1: 10, 0.2: 10, math.inf: 10}, 0.05),
        (0.5, {0.1: 0, 0.2: 10, math.inf: 10}, 0.15),  # between two bounds
        (0.95, {0.1: 90, 0.2: 100, math.inf: 100}, 0.15),
        (0.95, {0.1: 1, 0.2: 1, math.inf: 10}, 0.2),  # above all bounds: the highest
        (0.5, {0.1: 5, 0.2: 10, math.inf: 10}, 0.1),
    ],
)
def test_quantiles_are_those_of_promql(share, bounds, expected):
    assert quantile(share, bounds) == expected


def test_bounds_without_a_first_token_say_where_the_next_begins():
    history = History()
    none = {0.1: 0, 0.2: 0, math.inf: 0}
    history.take(NOW, counts({"a": none}))
    history.take(NOW + 1, counts({"a": {0.1: 0, 0.2: 4, math.inf: 4}}, a="ok 4"))
    assert (history.routes()["a"].p50, history.routes()[""].p95) == (0.15, 0.195)
