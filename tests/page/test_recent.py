"""What is kept of requests that have ended has bounds."""

from __future__ import annotations

from types import SimpleNamespace

from gateway.page import recent
from gateway.page.recent import Recent
from gateway.page.sample import MOST_LINES

LINE = {"caller": "anonymous", "outcome": "ok", "tokens_in": 2, "tokens_out": None}
OF_KEY = LINE | {"caller": "key:a"}


def exchange(client="10.0.0.1", route="chat"):
    return SimpleNamespace(
        route=route and SimpleNamespace(name=route), client=client, admissions=(), limit_statuses=()
    )


def test_the_last_lines_are_kept_and_each_is_given_once():
    kept = Recent()
    for number in range(MOST_LINES + 5):
        kept.keep(exchange(), LINE | {"request_id": str(number)})
    assert [line.line["request_id"] for line in kept.lines_after(0)] == [
        str(n) for n in range(5, MOST_LINES + 5)
    ]
    assert kept.last_line == MOST_LINES + 5
    assert [line.number for line in kept.lines_after(kept.last_line - 2)] == [MOST_LINES + 4, MOST_LINES + 5]


def test_a_caller_counts_by_its_name_or_address_on_each_route():
    kept = Recent()
    kept.keep(exchange(), OF_KEY)
    kept.keep(exchange(client="10.0.0.2"), OF_KEY | {"outcome": "refused", "tokens_out": 5})
    kept.keep(exchange(route="other"), OF_KEY)
    kept.keep(exchange(), LINE)
    kept.keep(exchange(), LINE | {"caller": None})  # refused before its credential was read
    kept.keep(exchange(route=None), LINE)
    used = {(one.route, one.caller): one for one in kept.used()}
    assert list(used) == [("chat", "10.0.0.1"), ("other", "key:a"), ("chat", "key:a")]
    both = used["chat", "key:a"]
    assert used["chat", "10.0.0.1"].requests == 2
    assert (both.requests, both.not_ok, both.tokens_in, both.tokens_out) == (2, 1, 4, 5)


def test_the_caller_that_was_away_for_longest_is_forgotten(monkeypatch):
    monkeypatch.setattr(recent, "MOST_CALLERS", 3)
    kept = Recent()
    for name in ("a", "b", "c", "a", "d"):
        kept.keep(exchange(), LINE | {"caller": name})
    assert [one.caller for one in kept.used()] == ["d", "a", "c"]
    assert kept.callers == 3
