"""Prometheus accepts the scrape configuration, and it matches the rules and the gateway."""

from __future__ import annotations

import re
import shutil

from tests.harness import monitoring

CONFIG = monitoring.PROMETHEUS / "prometheus.yml"


def job():
    (only,) = monitoring.parsed(CONFIG)["scrape_configs"]
    return only


def test_prometheus_accepts_it_with_its_token_file(promtool, tmp_path):
    shutil.copytree(monitoring.PROMETHEUS, tmp_path / "prometheus")
    (tmp_path / "prometheus" / job()["authorization"]["credentials_file"]).write_text("secret")
    output = promtool("check", "config", tmp_path / "prometheus" / "prometheus.yml")
    assert f"{len(list(monitoring.PROMETHEUS.glob('rules/*.yml')))} rule files found" in output


def test_it_names_all_rule_files():
    (pattern,) = monitoring.parsed(CONFIG)["rule_files"]
    assert set(monitoring.PROMETHEUS.glob(pattern)) == set(monitoring.PROMETHEUS.glob("rules/*"))


def test_the_rules_use_its_job_name():
    named = {name for rule in monitoring.rules() for name in re.findall(r'job="([^"]+)"', str(rule))}
    assert named == {job()["job_name"]}


def test_no_dropped_series_is_used():
    """Only the `_created` series are dropped: the pattern matches no metric of the gateway."""
    (dropping,) = job()["metric_relabel_configs"]
    assert dropping["action"] == "drop"
    assert re.fullmatch(dropping["regex"], "flowise_gateway_requests_created")
    assert not [name for name in monitoring.real_series() if re.fullmatch(dropping["regex"], name)]


def test_windows_span_enough_scrapes():
    """rate() needs two samples in its window; four tolerate a missed scrape."""
    scrape = monitoring.parsed(CONFIG)["global"]["scrape_interval"]
    assert scrape.endswith("s")
    windows = re.findall(
        r"\[(\d+)m\]", "".join(path.read_text() for path in monitoring.PROMETHEUS.glob("rules/*"))
    )
    assert min(map(int, windows)) * 60 >= 4 * int(scrape.removesuffix("s"))
