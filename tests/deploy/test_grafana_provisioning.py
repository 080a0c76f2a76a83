"""Grafana's provisioning matches the dashboard and Prometheus's configuration."""

from __future__ import annotations

from tests.harness import monitoring

PROVISIONING = monitoring.GRAFANA / "provisioning"
SOURCE = PROVISIONING / "datasources" / "prometheus.yml"
PROVIDER = PROVISIONING / "dashboards" / "flowise-gateway.yml"


def only(path, kind):
    whole = monitoring.parsed(path)
    assert whole["apiVersion"] == 1
    (one,) = whole[kind]
    return one


def test_the_default_data_source_is_prometheus():
    source = only(SOURCE, "datasources")
    (variable,) = [v for v in monitoring.dashboard()["templating"]["list"] if v["type"] == "datasource"]
    assert source["type"] == variable["query"]
    assert source["isDefault"]
    assert source["url"].startswith("http://")


def test_the_data_source_has_the_scrape_interval_of_prometheus():
    config = monitoring.parsed(monitoring.PROMETHEUS / "prometheus.yml")
    assert only(SOURCE, "datasources")["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_the_dashboards_path_is_mounted():
    path = only(PROVIDER, "providers")["options"]["path"]
    assert f"mount deploy/grafana/dashboards as {path}" in PROVIDER.read_text()
    assert f"deploy/grafana/provisioning as {path.rpartition('/')[0]}/provisioning" in PROVIDER.read_text()
    assert [file.name for file in monitoring.DASHBOARD.parent.iterdir()] == [monitoring.DASHBOARD.name]


def test_provisioned_dashboards_cannot_be_edited():
    provider = only(PROVIDER, "providers")
    assert provider["type"] == "file"
    assert not provider["allowUiUpdates"]


def test_nothing_else_is_provisioned():
    assert {path for path in PROVISIONING.rglob("*") if path.is_file()} == {SOURCE, PROVIDER}
