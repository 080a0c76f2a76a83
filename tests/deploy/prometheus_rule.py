"""The shipped rules as an object for the Prometheus operator: `python -m tests.deploy.prometheus_rule` writes it anew."""

from __future__ import annotations

from tests.harness.monitoring import DEPLOY, PROMETHEUS

FILE = DEPLOY / "kubernetes" / "production" / "prometheusrule.yaml"
HEAD = """\
# deploy/prometheus/rules as one object; made by: python -m tests.deploy.prometheus_rule
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: flowise-gateway
spec:
  groups:
"""


def rule_text() -> str:
    """Every group of every file, with its comments, two columns further in."""
    lines = []
    for path in sorted((PROMETHEUS / "rules").glob("*.yml")):
        _, _, groups = path.read_text().partition("groups:\n")
        lines += [f"  {line}".rstrip() + "\n" for line in groups.splitlines()]
    return HEAD + "".join(lines)


if __name__ == "__main__":
    FILE.write_text(rule_text())
