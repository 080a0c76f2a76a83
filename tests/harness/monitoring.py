"""The metrics of the gateway, the rules in deploy/prometheus and the dashboard in deploy/grafana, for comparison."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml
from prometheus_client import Counter, Histogram

from gateway.flowise.endpoints import ENDPOINTS
from gateway.flowise.outcome import Outcome
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.processes import values_of
from tests.harness.promql import selectors
from tests.test_documentation import rows, words

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
GRAFANA = DEPLOY / "grafana"
DASHBOARD = GRAFANA / "dashboards" / "flowise-gateway.json"
PREFIX = "flowise_gateway_"
REQUESTS = PREFIX + "requests_total"
TARGET = frozenset({"job", "instance"})  # labels that Prometheus adds to every series
OF_PROMETHEUS = {
    "up": TARGET,
    "scrape_samples_post_metric_relabeling": TARGET,
    "ALERTS": TARGET | {"alertname", "alertstate", "severity"},
}


def real_metrics():
    """The collectors of the gateway by their documented name."""
    collectors = Metrics().registry._collector_to_names
    return {
        c._name.removeprefix(PREFIX) + ("_total" if isinstance(c, Counter) else ""): c for c in collectors
    }


def real_series() -> dict[str, frozenset[str]]:
    """Every series that a scrape of the gateway can have, with its labels."""
    series = {}
    for name, collector in real_metrics().items():
        labels = TARGET | set(collector._labelnames)
        if isinstance(collector, Histogram):
            series |= {f"{PREFIX}{name}_{part}": labels for part in ("count", "sum")}
            series[f"{PREFIX}{name}_bucket"] = labels | {"le"}
        else:
            series[full_name(name)] = labels
    for value in values_of(os.getpid()):
        suffix = "_total" if value.kind == "counter" else ""
        series[value.name + suffix] = TARGET | {"worker"}
    return series


def full_name(documented: str) -> str:
    """The name of a series from that in deploy/README.md."""
    return documented if documented.startswith(("python_", "process_")) else PREFIX + documented


def known_series() -> dict[str, frozenset[str]]:
    """Every series that an expression may use: real, recorded, and those of Prometheus itself."""
    recorded = {rule["record"]: level_of(rule["record"]) for rule in recording_rules()}
    return real_series() | recorded | OF_PROMETHEUS


def level_of(record: str) -> frozenset[str]:
    """The labels of a recorded series, which its name begins with."""
    return frozenset(record.partition(":")[0].split("_")) | {"job"}


def closed_lists() -> dict[tuple[str, str], frozenset[str]]:
    """The values that a label may have: `Outcome`, the endpoints, and what deploy/README.md lists in brackets."""
    documented = {
        (words(name)[0], label): frozenset(values.split(", "))
        for name, _, labels in rows("Metrics")
        for label, values in re.findall(r"`(\w+)` \(([^)]*)\)", labels)
    }
    lists = {(full_name(name), label): values for (name, label), values in documented.items()}
    lists[REQUESTS, "outcome"] = frozenset(outcome.value for outcome in Outcome)
    lists[REQUESTS, "status"] = frozenset(str(status) for status in range(200, 600))
    for series in (REQUESTS, f"{PREFIX}request_duration_seconds_bucket"):
        lists[series, "endpoint"] = frozenset(endpoint.name for endpoint in ENDPOINTS)
    for rule in recording_rules():  # a recorded series has the values of its source
        for label in level_of(rule["record"]):
            sources = [
                lists[key] for source in selectors(rule["expr"]) if (key := (source.name, label)) in lists
            ]
            if sources:
                lists[rule["record"], label] = sources[0]
    return lists


@cache
def parsed(path: Path):
    return yaml.safe_load(path.read_text())


def rules():
    """Every rule, in the order of the files' names and, within a file, of their evaluation."""
    paths = sorted((PROMETHEUS / "rules").glob("*.yml"))
    return [rule for path in paths for group in parsed(path)["groups"] for rule in group["rules"]]


def recording_rules():
    return [rule for rule in rules() if "record" in rule]


def alerts():
    return [rule for rule in rules() if "alert" in rule]


def unit_tests():
    """Every unit test for promtool."""
    paths = sorted((PROMETHEUS / "tests").glob("*.yml"))
    return [test for path in paths for test in parsed(path)["tests"]]


@cache
def dashboard():
    return json.loads(DASHBOARD.read_text())


def panels():
    """All panels but the rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str, str]]:
    """The dashboard's queries as (place, expression, texts that use its labels)."""
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"], target["legendFormat"]
    for annotation in dashboard()["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], annotation["expr"], annotation["titleFormat"] + annotation["textFormat"]


def variable_queries() -> dict[str, tuple[str, str]]:
    """The dashboard's variables that query Prometheus: a selector, and the label whose values they offer."""
    found = {
        variable["name"]: re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
        for variable in dashboard()["templating"]["list"]
        if variable["type"] == "query"
    }
    assert found
    return found
