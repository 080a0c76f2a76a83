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
    ("gateway", "words"),
    [(7.0, "ok, and the harder target"), (8.2, "ok"), (9.0, "MISSED"), (None, "not measured")],
)
def test_a_verdict_has_a_target_and_a_harder_one(gateway, words):
    results = _results(envoy=[10], **({} if gateway is None else {"gateway": [gateway]}))
    (verdict,) = [one for one in report.verdicts(results, ["streams"]) if "Envoy" in one.target]
    assert str(verdict).startswith("CPU per event, × Envoy ≤ 0.85:")
    assert str(verdict).endswith(f" {words}")


@pytest.mark.parametrize(("of_one_core", "met"), [(899.0, False), (900.0, True)])
def test_some_figures_have_a_least_value(of_one_core, met):
    results = Results()
    results.add("gateway", {jobs.SHORT_CORE: of_one_core})
    assert [verdict.met for verdict in report.verdicts(results, ["short"])] == [met]


@pytest.mark.parametrize(("worst", "met"), [(18.0, True), (18.1, False)])
def test_memory_is_judged_where_it_is_worst(worst, met):
    results = Results()
    results.add(
        "gateway", {jobs.rss_figure(500): 1.0, jobs.rss_figure(1000): worst, jobs.pss_figure(500): 99.0}
    )
    assert report.verdicts(results, ["memory"])[0].met == met


@pytest.mark.parametrize(("many", "met"), [([11.0, 22.0, 11.0], True), ([11.5, 23.0, 11.0], False)])
def test_growth_compares_the_most_streams_with_the_fewest_of_the_same_round(many, met):
    results = Results()
    for few, most in zip([10.0, 20.0, 10.0], many, strict=True):
        results.add("gateway", {jobs.growth_figure(10): few, jobs.growth_figure(1000): 99.0})
        results.add("gateway", {jobs.growth_figure(5000): most})
    assert [verdict.met for verdict in report.verdicts(results, ["growth"])] == [met]
    assert "CPU µs per event, 5000 open" in report.table(results, {})


def test_with_one_number_of_streams_there_is_no_growth():
    results = Results()
    results.add("gateway", {jobs.growth_figure(10): 5.0})
    assert [verdict.met for verdict in report.verdicts(results, ["growth"])] == [None]


def test_the_growth_of_others_is_not_judged():
    results = Results()
    for streams in (10, 5000):
        results.add("nginx", {jobs.growth_figure(streams): 5.0})
    assert [verdict.met for verdict in report.verdicts(results, ["growth"])] == [None]
    assert "CPU µs per event, 5000 open" in report.table(results, {})


def test_everything_on_is_compared_with_envoy_too():
    results = Results()
    for target, value in (("envoy", 100.0), ("gateway", 350.0), ("everything", 510.0)):
        results.add(target, {jobs.CPU_REQUEST: value})
    assert [verdict.met for verdict in report.verdicts(results, ["requests"])] == [True, False]


def test_added_latency_is_the_difference_to_direct_in_the_same_round():
    results = _results(direct=[1.0, 2.0], nginx=[1.5, 3.0])
    report.add_time_over_direct(results)
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
