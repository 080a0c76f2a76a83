"""The scrape configuration is one that Prometheus takes, and fits the rules and the gateway."""

from __future__ import annotations

import re
import shutil

from tests.harness import monitoring

CONFIG = monitoring.PROMETHEUS / "prometheus.yml"


def job():
    (only,) = monitoring.parsed(CONFIG)["scrape_configs"]
    return only


def test_prometheus_takes_it_with_the_token_beside_it(promtool, tmp_path):
    shutil.copytree(monitoring.PROMETHEUS, tmp_path / "prometheus")
    (tmp_path / "prometheus" / job()["authorization"]["credentials_file"]).write_text("secret")
    said = promtool("check", "config", tmp_path / "prometheus" / "prometheus.yml")
    assert f"{len(list(monitoring.PROMETHEUS.glob('rules/*.yml')))} rule files found" in said


def test_the_rule_files_it_names_are_all_there_are():
    (pattern,) = monitoring.parsed(CONFIG)["rule_files"]
    assert set(monitoring.PROMETHEUS.glob(pattern)) == set(monitoring.PROMETHEUS.glob("rules/*"))


def test_the_rules_know_the_job_by_its_name():
    named = {name for rule in monitoring.rules() for name in re.findall(r'job="([^"]+)"', str(rule))}
    assert named == {job()["job_name"]}


def test_what_is_dropped_is_read_by_nobody():
    """When a counter was made is a series more for each; no metric of ours may be caught by the pattern."""
    (dropping,) = job()["metric_relabel_configs"]
    assert dropping["action"] == "drop"
    assert re.fullmatch(dropping["regex"], "flowise_gateway_requests_created")
    assert not [name for name in monitoring.real_series() if re.fullmatch(dropping["regex"], name)]


def test_windows_hold_enough_scrapes():
    """rate() needs two samples in its window, four to outlive a scrape that was missed."""
    scrape = monitoring.parsed(CONFIG)["global"]["scrape_interval"]
    assert scrape.endswith("s")
    windows = re.findall(
        r"\[(\d+)m\]", "".join(path.read_text() for path in monitoring.PROMETHEUS.glob("rules/*"))
    )
    assert min(map(int, windows)) * 60 >= 4 * int(scrape.removesuffix("s"))
