"""The dashboard: every panel has a place, texts, a data source and data."""

from __future__ import annotations

import json
import re
from itertools import combinations, product

import pytest
import yaml

from tests.harness import monitoring

BUILT_IN = {"__all", "__rate_interval", "__range"}
WIDTH = 24
each_panel = pytest.mark.parametrize("panel", monitoring.panels(), ids=lambda panel: panel["title"])


def variables():
    return {variable["name"]: variable for variable in monitoring.dashboard()["templating"]["list"]}


def source_of(thing):
    return thing["datasource"]["type"], thing["datasource"]["uid"]


PROMETHEUS = ("prometheus", "${datasource}")


def test_its_json_is_normalised_for_small_diffs():
    text = monitoring.DASHBOARD.read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def test_it_can_be_provisioned_repeatedly():
    whole = monitoring.dashboard()
    assert (whole["uid"], whole["id"]) == ("flowise-gateway", None)
    assert whole["title"]
    assert whole["schemaVersion"] >= 39
    assert "__inputs" not in whole


def test_panels_have_unique_ids_titles_and_places():
    panels = monitoring.dashboard()["panels"]
    for field in ("id", "title"):
        assert len({panel[field] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y


def test_every_row_of_panels_is_filled():
    filled = {}
    for panel in monitoring.dashboard()["panels"]:
        place = panel["gridPos"]
        filled[place["y"]] = filled.get(place["y"], 0) + place["w"]
    assert set(filled.values()) == {WIDTH}


@each_panel
def test_a_panel_has_a_description_and_a_unit(panel):
    assert panel["description"].endswith(".")
    assert len(panel["description"]) > 30
    shown = panel["fieldConfig"]["defaults"].get("unit") or panel["options"].get("yAxis", {}).get("unit")
    assert shown or panel["title"] == "Versions"


@each_panel
def test_a_panel_uses_the_chosen_data_source(panel):
    assert source_of(panel) == PROMETHEUS
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])
    assert {source_of(target) for target in panel["targets"]} == {PROMETHEUS}


@each_panel
def test_a_panel_filters_by_every_variable_that_its_metrics_have(panel):
    """A value that ignores the chosen route misleads, unless its metric has no route."""
    known = monitoring.known_series()
    for target in panel["targets"]:
        for name, body in re.findall(
            r"\b((?:\w+:)?flowise_gateway_\w+(?::\w+)?|(?:process|python)_\w+)\{([^}]*)\}", target["expr"]
        ):
            followed = {label for label in variables() if f'{label}=~"${label}"' in body}
            assert followed == known[name] & set(variables()), name
        assert not re.search(r"\b(flowise_gateway|process|python)_\w+(?![\w{:])", target["expr"])


def test_annotations_use_the_chosen_data_source():
    asking = [mark for mark in monitoring.dashboard()["annotations"]["list"] if "expr" in mark]
    assert asking
    assert {source_of(mark) for mark in asking} == {PROMETHEUS}


def test_every_variable_is_used():
    text = monitoring.DASHBOARD.read_text()
    used = set(re.findall(r"\$\{?(\w+)", text)) - BUILT_IN
    assert used == set(variables())


def test_variables_use_the_chosen_data_source_and_offer_all():
    for variable in variables().values():
        if variable["type"] == "query":
            assert source_of(variable) == PROMETHEUS
            assert variable["includeAll"]
            assert variable["multi"]
            assert variable["definition"] == variable["query"]["query"]


def test_every_outcome_has_a_colour():
    (panel,) = [panel for panel in monitoring.panels() if panel["title"] == "Predictions by outcome"]
    coloured = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
    assert coloured == monitoring.closed_lists()[monitoring.REQUESTS, "outcome"]


def test_no_panel_is_empty_when_every_series_counts(promtool, tmp_path):
    """With all series of the gateway, every expression has a result."""
    queries = [
        ask(f"count(({filled(expression)}) > -1e300) > bool 0", 1)
        for _, expression, _ in monitoring.queries()
        if "ALERTS" not in expression and "changes(" not in expression
    ]
    assert len(queries) > 40
    evaluate(queries, counting({}), promtool, tmp_path)


def test_a_share_is_zero_when_nothing_fails(promtool, tmp_path):
    """An empty panel would look like missing traffic."""
    queries = [
        ask(f"min({filled(expression)})", 1 if 'outcome="ok"' in expression else 0)
        for _, expression, _ in monitoring.queries()
        if " / " in expression
    ]
    assert len(queries) >= 5
    good = {"outcome": ["ok"], "result": ["ok"], "source": ["reported"]}
    evaluate(queries, counting(good), promtool, tmp_path)


def ask(expression, value):
    return {"expr": expression, "eval_time": "40m", "exp_samples": [{"labels": "{}", "value": value}]}


def evaluate(queries, series, promtool, tmp_path):
    """Evaluate with promtool, with the rules, after the series have counted for 40 minutes."""
    whole = {
        "rule_files": [str(monitoring.PROMETHEUS / "rules" / "*.yml")],
        "evaluation_interval": "5m",
        "tests": [{"interval": "1m", "input_series": list(series), "promql_expr_test": queries}],
    }
    (tmp_path / "panels.yml").write_text(yaml.safe_dump(whole))
    promtool("test", "rules", tmp_path / "panels.yml")


def filled(expression):
    """An expression as Grafana sends it with all values chosen."""
    for name in variables():
        expression = expression.replace(f"${name}", ".+")
    return re.sub(r"\$__\w+", "15m", expression)


def counting(values):
    """Every series of the gateway, once for each given label value, or else for each of its closed list."""
    lists = monitoring.closed_lists()
    values = {"job": ["flowise-gateway"], "status": ["200"], "le": ["0.05", "+Inf"]} | values
    of_prometheus = {name: monitoring.TARGET for name in monitoring.OF_PROMETHEUS if name != "ALERTS"}
    for series, labels in (monitoring.real_series() | of_prometheus).items():
        names = sorted(labels)
        for chosen in product(*(values.get(name) or lists.get((series, name), ["some"]) for name in names)):
            matchers = ", ".join(f'{name}="{value}"' for name, value in zip(names, chosen, strict=True))
            yield {"series": f"{series}{{{matchers}}}", "values": "1x60" if series == "up" else "0+1x60"}
