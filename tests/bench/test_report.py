from __future__ import annotations

import pytest

from tests.bench import jobs, report
from tests.bench.measure import Results


def _results(**rounds_by_target):
    results = Results()
    for target, rounds in rounds_by_target.items():
        for value in rounds:
            results.add(target, {jobs.CPU_EVENT: value, jobs.LATENCY_P50: value, jobs.LATENCY_P99: value})
    return results


def test_a_ratio_is_taken_within_each_round_so_that_a_slow_host_does_not_count():
    results = _results(gateway=[10, 100, 10], nginx=[10, 50, 5])
    assert report.ratio(results, jobs.CPU_EVENT, "gateway", "nginx") == 2


def test_a_ratio_to_a_missing_target_is_none():
    assert report.ratio(_results(gateway=[10]), jobs.CPU_EVENT, "gateway", "nginx") is None


@pytest.mark.parametrize(
    ("gateway", "met"), [(8.9, [True, True, True]), (9.1, [False, True, True]), (15.1, [False, False, False])]
)
def test_verdicts_on_cpu_and_latency(gateway, met):
    results = _results(gateway=[gateway], nginx=[10], envoy=[10])
    assert [verdict.met for verdict in report.verdicts(results, ["streams"])] == met


@pytest.mark.parametrize(("worst", "met"), [(20.0, True), (20.1, False)])
def test_memory_is_judged_where_it_is_worst(worst, met):
    results = Results()
    results.add(
        "gateway", {jobs.rss_figure(500): 1.0, jobs.rss_figure(1000): worst, jobs.pss_figure(500): 99.0}
    )
    assert [verdict.met for verdict in report.verdicts(results, ["memory"])] == [met]


def test_a_target_that_was_not_measured_is_neither_met_nor_missed():
    assert [verdict.met for verdict in report.verdicts(Results(), ["streams", "memory"])] == [None] * 4
    assert str(report.verdicts(Results(), ["memory"])[0]).endswith(": not measured")


def test_added_latency_is_the_difference_to_direct_in_the_same_round():
    results = _results(direct=[1.0, 2.0], nginx=[1.5, 3.0])
    report.add_latency_over_direct(results)
    assert results.values["added latency p50 ms"] == {"nginx": [0.5, 1.0]}


def test_the_table_shows_median_spread_and_the_ratios_of_the_gateway():
    row = report.table(
        _results(gateway=[10, 20, 30], nginx=[10, 10, 10], envoy=[40, 40, 40]), {}
    ).splitlines()[1]
    assert row.split() == [
        "CPU",
        "µs",
        "per",
        "event",
        "10.0",
        "(10.0-10.0)",
        "40.0",
        "(40.0-40.0)",
        "20.0",
        "(10.0-30.0)",
        "2.00",
        "0.50",
    ]
