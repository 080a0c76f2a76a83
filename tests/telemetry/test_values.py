"""What is added to cells is what the library's own methods would have added."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.telemetry.values import add_observed, cell_of, observer

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
        cell_of(metrics["counter"])[0] += amount
        cell_of(metrics["gauge"])[0] -= amount

    def by_the_library(metrics):
        metrics["counter"].inc(amount)
        metrics["gauge"].dec(amount)

    assert scraped(directly) == scraped(by_the_library)


@pytest.mark.parametrize("amount", AMOUNTS)
def test_observing(amount):
    assert scraped(lambda metrics: observer(metrics["histogram"])(amount)) == scraped(
        lambda metrics: metrics["histogram"].observe(amount)
    )


def test_adding_what_was_observed_elsewhere():
    counts, total = (1, 0, 2, 0, 1), 7.5

    def one_by_one(metrics):
        for amount in (0.001, 0.7, 0.8, 5.999):
            metrics["histogram"].observe(amount)

    assert scraped(lambda metrics: add_observed(metrics["histogram"], counts, total)) == scraped(one_by_one)


def test_a_cell_and_the_library_count_in_the_same_number():
    def both(metrics):
        cell_of(metrics["counter"])[0] += 2
        metrics["counter"].inc(3)
        metrics["gauge"].set(7)
        cell_of(metrics["gauge"])[0] += 1

    assert {'c_total{l="a"} 5.0', 'g{l="a"} 8.0'} <= set(scraped(both))
