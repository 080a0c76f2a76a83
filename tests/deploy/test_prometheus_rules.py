"""Prometheus accepts the rules; every alert has a runbook and is tested firing and not firing."""

from __future__ import annotations

import re

import pytest

from tests.harness import monitoring

RULES = sorted((monitoring.PROMETHEUS / "rules").glob("*.yml"))
UNIT_TESTS = sorted((monitoring.PROMETHEUS / "tests").glob("*.yml"))
each_alert = pytest.mark.parametrize("alert", monitoring.alerts(), ids=lambda alert: alert["alert"])


def test_every_file_of_rules_has_its_tests():
    assert RULES
    assert {path.name for path in RULES} <= {path.name for path in UNIT_TESTS}


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_prometheus_accepts_the_rules(path, promtool):
    promtool("check", "rules", path)


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_the_rules_pass_their_tests(path, promtool):
    promtool("test", "rules", path)


@each_alert
def test_an_alert_has_a_severity_and_a_runbook(alert):
    assert re.fullmatch(r"FlowiseGateway[A-Z]\w+", alert["alert"])
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert all(text.endswith(".") for text in alert["annotations"].values())
    assert alert["annotations"]["runbook"].startswith("First ")


@each_alert
def test_an_alert_names_panels_that_are_on_the_dashboard(alert):
    titles = {panel["title"] for panel in monitoring.dashboard()["panels"]}
    assert set(re.findall(r'"([A-Z][^"]+)"', alert["annotations"]["runbook"])) <= titles


@each_alert
def test_an_alert_is_tested_firing_and_not_firing(alert):
    cases = [
        bool(case.get("exp_alerts"))
        for test in monitoring.unit_tests()
        for case in test.get("alert_rule_test", ())
        if case["alertname"] == alert["alert"]
    ]
    assert set(cases) == {True, False}


@each_alert
def test_a_share_has_a_minimum_count(alert):
    """A single failed request is no alert."""
    is_share = (
        "ratio" in alert["expr"] or " / " in " ".join(alert["expr"].split()) or "quantile" in alert["expr"]
    )
    assert not is_share or re.search(r"increase\w*.*>= \d+\s*$", alert["expr"], re.DOTALL)


def test_alert_names_are_unique():
    names = [alert["alert"] for alert in monitoring.alerts()]
    assert len(names) == len(set(names))


def test_group_names_are_unique():
    names = [group["name"] for path in RULES for group in monitoring.parsed(path)["groups"]]
    assert len(names) == len(set(names))
    assert all(name.startswith("flowise-gateway-") for name in names)
