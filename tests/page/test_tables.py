"""Tables of several processes, and what has changed between two states."""

from __future__ import annotations

from gateway.page.sample import (
    MOST_CALLERS,
    MOST_RUNS,
    MOST_WAITING,
    CallerUse,
    LimitLeft,
    Run,
    Sample,
    ServerState,
)
from gateway.page.tables import (
    NOTHING,
    Numbered,
    caller_table,
    changes,
    run_table,
    server_table,
    split_key,
    store_row,
)


def run(since, stage="streaming"):
    return Run(
        f"{since}", f"id-{since}", "chat", "anonymous", "10.0.0.1", "", "", stage, since, None, 0, True
    )


def test_only_rows_that_have_changed_are_sent():
    before = {"runs": {"a": {"tokens": 1}, "b": {"tokens": 2}, "c": {"tokens": 3}}, "hour": {}}
    after = {"runs": {"a": {"tokens": 1}, "b": {"tokens": 9}, "d": {"tokens": 0}}, "hour": {}}
    assert changes(before, after) == {
        "runs": {"set": {"b": {"tokens": 9}, "d": {"tokens": 0}}, "gone": ["c"]}
    }
    assert changes(after, after) == {}


def test_from_nothing_every_table_is_sent_also_an_empty_one():
    assert changes(NOTHING, {"runs": {}, "hour": {"1": {}}}) == {
        "runs": {"set": {}, "gone": []},
        "hour": {"set": {"1": {}}, "gone": []},
    }


def test_runs_of_all_workers_are_one_table_with_the_oldest_and_the_newest():
    one = Sample(runs=[run(number) for number in range(0, 200, 2)])
    other = Sample(runs=[run(number) for number in range(1, 200, 2)])
    table = run_table([Numbered("1", one), Numbered("2", other)])
    assert [row["since"] for row in table.values()] == [*range(MOST_RUNS), *range(200 - MOST_RUNS, 200)]
    assert table["2:1"]["worker"] == "2"
    assert split_key("2:1") == ("2", "1")
    assert split_key(":1.5") == ("", "1.5")


def test_requests_that_wait_are_listed_beside_the_runs():
    waiting = [run(number, "conversation") for number in range(MOST_WAITING + 10)]
    table = run_table([Numbered("", Sample(runs=[*waiting, run(1000)]))])
    assert len(table) == MOST_WAITING + 1
    assert [row["since"] for row in table.values()][-2:] == [MOST_WAITING - 1, 1000]


def use(caller, last, remaining=5, requests=1):
    limits = [LimitLeft("per-hour", "requests", 10, remaining, 1)]
    return CallerUse("chat", caller, requests, 0, 3, 4, last, limits)


def test_what_a_caller_has_used_is_added_over_processes_and_its_limits_are_those_seen_last():
    one, other = (
        Sample(callers=[use("ann", 1.0, 9)]),
        Sample(callers=[use("ann", 2.0, 8, 2), use("bob", 0.5)]),
    )
    table = caller_table([Numbered("1", one), Numbered("2", other)])
    assert [row.caller for row in table.values()] == ["ann", "bob"]
    ann = table["chat\nann"]
    assert (ann.requests, ann.tokens_in, ann.tokens_out, ann.last) == (3, 6, 8, 2.0)
    assert [limit.remaining for limit in ann.limits] == [8]


def test_the_latest_callers_are_listed():
    many = Sample(callers=[use(f"caller-{number}", float(number)) for number in range(MOST_CALLERS + 5)])
    assert [row.last for row in caller_table([Numbered("", many)]).values()][-1] == 5.0


def test_a_server_is_up_for_some_workers():
    up = ServerState("main", "flowise:3000", "10.0.0.1", True, "", 3)
    down = ServerState("main", "flowise:3000", "10.0.0.1", False, "refused", 1)
    samples = [Numbered("1", Sample(servers=[up])), Numbered("2", Sample(servers=[down]))]
    (row,) = server_table(samples).values()
    assert (row["runs"], row["seen_by"], row["up_for"], row["reason"]) == (4, 2, 1, "refused")


def test_a_store_is_reached_by_some_workers():
    samples = [Numbered("1", Sample(is_store_up=True)), Numbered("2", Sample(is_store_up=False))]
    assert store_row(samples) == {"is_shared": True, "up_for": 1, "seen_by": 2}
    assert store_row([Numbered("", Sample())]) == {"is_shared": False, "up_for": 0, "seen_by": 0}
