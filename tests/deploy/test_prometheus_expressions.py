"""Every expression of rules and dashboard uses existing series, labels and values, and can match."""

from __future__ import annotations

import re

import pytest

from gateway.flowise.outcome import Outcome
from tests.harness import monitoring
from tests.harness.promql import WrongError, labels_of, selectors

KNOWN = {
    "up": frozenset({"job"}),
    "a_total": frozenset({"job", "route", "result"}),
    "b_bucket": frozenset({"job", "route", "le"}),
}
CONFIGURED = {*monitoring.TARGET, "route"}  # values from the configuration
NO_ANSWER = {outcome.value for outcome in set(Outcome) - {Outcome.OK, Outcome.CLIENT_CLOSED, Outcome.REFUSED}}


def expressions():
    """All expressions with their place."""
    for rule in monitoring.rules():
        yield rule.get("record") or rule["alert"], rule["expr"]
    for where, expression, _ in monitoring.queries():
        yield where, expression
    for name, (selector, _) in monitoring.variable_queries().items():
        yield name, selector


def wrongs(pairs):
    """The mistakes of all expressions."""
    known, found = monitoring.known_series(), []
    for where, expression in pairs:
        try:
            labels_of(expression, known)
        except WrongError as wrong:
            found.append(f"{where}: {wrong}")
    return found


def test_every_expression_uses_existing_series_and_labels_and_can_match():
    assert not wrongs(expressions())


def test_every_selected_label_value_exists():
    lists, wrong = monitoring.closed_lists(), set()
    for where, expression in expressions():
        for selector in selectors(expression):
            for matcher in selector.matchers.matchers:
                if matcher.name not in CONFIGURED and selector.name not in monitoring.OF_PROMETHEUS:
                    values = lists.get((selector.name, matcher.name), frozenset())
                    unsaid = set(matcher.value.split("|")) - values
                    wrong |= {(where, selector.name, matcher.name, value) for value in unsaid}
    assert not wrong, "not in the brackets of deploy/README.md's table of metrics, nor an outcome or endpoint"


def test_failing_means_the_same_outcomes_everywhere():
    values = {
        matcher.value
        for _, expression in expressions()
        for selector in selectors(expression)
        for matcher in selector.matchers.matchers
        if matcher.name == "outcome" and "|" in matcher.value
    }
    assert {frozenset(value.split("|")) for value in values} == {frozenset(NO_ANSWER)}


def test_a_recorded_series_has_the_labels_of_its_name():
    known = monitoring.known_series()
    for rule in monitoring.recording_rules():
        assert labels_of(rule["expr"], known) == monitoring.level_of(rule["record"]), rule["record"]


def test_a_rule_uses_series_recorded_earlier_in_its_file():
    """A group is evaluated in order, and a file can be used and tested alone."""
    for path in (monitoring.PROMETHEUS / "rules").glob("*.yml"):
        seen = set()
        for rule in [rule for group in monitoring.parsed(path)["groups"] for rule in group["rules"]]:
            seen.add(rule.get("record"))
            assert {selector.name for selector in selectors(rule["expr"]) if ":" in selector.name} <= seen


def test_every_recorded_series_is_used():
    used = {selector.name for _, expression in expressions() for selector in selectors(expression)}
    assert {rule["record"] for rule in monitoring.recording_rules()} <= used


def test_every_metric_of_the_gateway_is_on_the_dashboard():
    shown = {
        selector.name.removeprefix(monitoring.PREFIX).removesuffix("_bucket")
        for _, expression, _ in monitoring.queries()
        for selector in selectors(expression)
    }
    assert set(monitoring.real_metrics()) <= shown


def test_texts_use_labels_of_the_result():
    known = monitoring.known_series()
    for where, expression, text in monitoring.queries():
        assert set(re.findall(r"\{\{(\w+)\}\}", text)) <= labels_of(expression, known), where
    for alert in monitoring.alerts():
        named = set(re.findall(r"\$labels\.(\w+)", str(alert["annotations"])))
        assert named <= labels_of(alert["expr"], known), alert["alert"]


def test_dashboard_variables_use_existing_labels():
    for selector, label in monitoring.variable_queries().values():
        assert label in labels_of(selector, monitoring.known_series())


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("up", {"job"}),
        ("1 + 1", None),
        ("time() - a_total", {"job", "route", "result"}),
        ("-(up)", {"job"}),
        ("sum(a_total)", set()),
        ("sum by (route) (rate(a_total{result='ok'}[$__rate_interval]))", {"route"}),
        ("sum without (result) (a_total)", {"job", "route"}),
        ("topk(3, a_total)", {"job", "route", "result"}),
        ("max_over_time(a_total[1h:1m])", {"job", "route", "result"}),
        ("histogram_quantile(0.9, sum by (route, le) (b_bucket))", {"route"}),
        ("a_total / on (job) group_left () up", {"job", "route", "result"}),
        ("up / on (job) group_right () a_total", {"job", "route", "result"}),
        ("sum by (job) (a_total) / on (job) up", {"job"}),
        ("a_total / ignoring (result) sum without (result) (a_total)", {"job", "route"}),
        ("a_total and on (job) up", {"job", "route", "result"}),
        ("a_total unless a_total offset 1h", {"job", "route", "result"}),
        ("a_total > 1 or up", {"job"}),
        ("sum(up) or vector(0)", set()),
        ("up or on () vector(0)", set()),
        ("absent(up{job='x'})", {"job"}),
    ],
)
def test_the_labels_of_an_expression(expression, labels):
    assert labels_of(expression, KNOWN) == labels


@pytest.mark.parametrize(
    "expression",
    [
        "down",
        "rate(down[5m])",
        "up{route='x'}",
        "rate(up{route='x'}[5m])",
        "absent(up{route='x'})",
        "sum by (route) (up)",
        "sum without (route) (up)",
        "a_total / up",
        "a_total and up",
        "a_total / on (route) up",
        "up / on (route) a_total",
        "a_total / on (job) group_left (route) up",
        "histogram_quantile(0.9, sum by (route) (b_bucket))",
        "label_replace(up, 'a', '$1', 'job', '(.*)')",
        "sum by (",
    ],
)
def test_unsupported_expressions_are_refused(expression):
    with pytest.raises(WrongError):
        labels_of(expression, KNOWN)
