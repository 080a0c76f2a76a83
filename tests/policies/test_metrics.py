"""Gaps that a stream counted by itself appear in the scrape as if each had been observed."""

from __future__ import annotations

from itertools import pairwise

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest

from gateway.flowise.observer import GAP_BOUNDS, StreamObserver
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.values import add_observed

TOKEN = b'message:\ndata:{"event":"token","data":"a"}\n\n'
TIMES = (10.0, 10.0, 10.004, 10.014, 10.5, 20.0)


def test_gaps_are_added_as_the_library_would_have_observed_them():
    observer, metrics = StreamObserver(), Metrics()
    one_by_one = Histogram(
        "flowise_gateway_inter_token_seconds",
        metrics.inter_token._documentation,
        ("route",),
        buckets=GAP_BOUNDS,
        registry=(registry := CollectorRegistry()),
    )
    for at in TIMES:
        observer.feed(TOKEN, at)
    for before, after in pairwise(TIMES):
        one_by_one.labels("chat").observe(after - before)
    added = CollectorRegistry()
    added.register(metrics.inter_token)
    add_observed(metrics.child(metrics.inter_token, "chat"), observer.gap_counts, observer.gap_sum)

    def samples(registry):
        return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]

    assert samples(added) == samples(registry)
    assert 'flowise_gateway_inter_token_seconds_count{route="chat"} 5.0' in samples(added)
