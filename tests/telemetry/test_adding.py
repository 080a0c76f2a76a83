"""What is added without the library's checks is what its own methods would have added."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.telemetry.metrics import adder, observer

BUCKETS = (0.001, 0.5, 1, 2.5)
AMOUNTS = (-1.0, 0.0, 0.001, 0.0011, 0.5, 1, 2.4, 2.5, 2.6, 1e9, float("inf"))


def scraped(use):
    """The samples after `use(metrics by their kind)`."""
    registry = CollectorRegistry()
    kinds = {
        "counter": Counter("c", "", ["l"], registry=registry),
        "gauge": Gauge("g", "", ["l"], registry=registry),
        "histogram": Histogram("h", "", ["l"], registry=registry, buckets=BUCKETS),
    }
    use({kind: metric.labels("a") for kind, metric in kinds.items()})
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


@pytest.mark.parametrize("amount", [0, 1, 2.5])
def test_adding(amount):
    def directly(metrics):
        adder(metrics["counter"])(amount)
        adder(metrics["gauge"])(-amount)

    def by_the_library(metrics):
        metrics["counter"].inc(amount)
        metrics["gauge"].dec(amount)

    assert scraped(directly) == scraped(by_the_library)


@pytest.mark.parametrize("amount", AMOUNTS)
def test_observing(amount):
    assert scraped(lambda metrics: observer(metrics["histogram"])(amount)) == scraped(
        lambda metrics: metrics["histogram"].observe(amount)
    )
