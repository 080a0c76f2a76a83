"""Requests and first tokens by route, from the metrics of one process and of several."""

from __future__ import annotations

import math

from gateway.telemetry.metrics import FIRST_TOKEN_BUCKETS, Metrics
from gateway.telemetry.request_counts import counted


def test_requests_are_added_over_endpoints_and_statuses():
    metrics = Metrics()
    for status, outcome in (("200", "ok"), ("503", "refused"), ("429", "refused")):
        metrics.requests.labels("chat", "prediction", status, outcome).inc()
    metrics.requests.labels("chat", "ping", "200", "ok").inc(2)
    metrics.requests.labels("none", "none", "400", "refused").inc()
    assert metrics.counts().requests == {
        ("chat", "ok"): 3,
        ("chat", "refused"): 2,
        ("none", "refused"): 1,
    }


def test_first_tokens_are_those_up_to_each_bound():
    metrics = Metrics()
    for seconds in (0.003, 0.05, 100.0):
        metrics.time_to_first_token.labels("chat").observe(seconds)
    found = metrics.counts().first_tokens["chat"]
    assert list(found) == [*FIRST_TOKEN_BUCKETS, math.inf]
    assert (found[0.001], found[0.005], found[0.06], found[60], found[math.inf]) == (0, 1, 2, 2, 3)


def test_other_samples_do_not_count():
    samples = [
        ("x_created", {"route": "a"}, 1.0),
        ("x_sum", {"route": "a"}, 1.0),
        ("x_count", {"route": "a"}, 1.0),
    ]
    assert counted(samples) == ({}, {})
