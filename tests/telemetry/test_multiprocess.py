"""Metrics of several workers: names, labels and values as of one process; dead workers keep their counts."""

from __future__ import annotations

import errno
import gc
import math
import os
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import values
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_metrics

from gateway.exchange import Exchange, Timings
from gateway.flowise.observer import StreamObserver
from gateway.flowise.outcome import Outcome
from gateway.policies.metrics import record
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.multiprocess import SharedMetrics, share_values
from gateway.telemetry.shared_numbers import FIRST_SIZE

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
TOKEN = b'message:\ndata:{"event":"token","data":"a"}\n\n'
STREAMS = 'flowise_gateway_streams_active{route="chat"}'
TOKENS = 'flowise_gateway_stream_events_total{event="token",route="chat"}'
GAPS = 'flowise_gateway_inter_token_seconds_count{route="none"}'


class Workers:
    """Simulates workers in this process, one after the other."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch
        self.shared = SharedMetrics()
        self.failures = []

    def use(self, streams=1, gauge=0, up=None):
        """Count as a worker that is then killed; returns its memory."""
        memory = self.shared.add_worker()
        with self._monkeypatch.context() as patch:
            patch.setattr(values, "ValueClass", None)  # restored afterwards
            share_values(memory, self.failures.append)
            use(Metrics(), streams, gauge, up)
        return memory

    def samples(self):
        return samples(self.shared.exposition("")[0])


@pytest.fixture
def workers(monkeypatch):
    workers = Workers(monkeypatch)
    yield workers
    for memory in list(workers.shared._workers):
        workers.shared.forget(memory)


def samples(exposition):
    pairs = (
        line.rsplit(" ", 1) for line in exposition.decode().splitlines() if line and not line.startswith("#")
    )
    return {name: float(value) for name, value in pairs if "_created" not in name}


def families(exposition):
    """The HELP and TYPE lines of a scrape, in order."""
    return [
        line for line in exposition.decode().splitlines() if line.startswith("# ") and "_created" not in line
    ]


def a_stream():
    """A settled exchange with gaps, events and bytes."""
    observer, times = StreamObserver(), (10.0, 10.0, 10.004, 10.014, 10.5, 20.0)
    for at in times:
        observer.feed(TOKEN, at)
    exchange = Exchange(request=None, request_id="r", client="c", timings=Timings(received=9.5))
    exchange.timings.ended = 20.5
    exchange.gaps = (observer.gap_counts, observer.gap_sum)
    assert sum(observer.gap_counts) == len(list(pairwise(times)))
    exchange.events = {"token": 6}
    exchange.status, exchange.outcome = 200, Outcome.OK
    return exchange


def use(metrics, streams=1, gauge=0, up=None):
    for _ in range(streams):
        record(metrics, a_stream())
    metrics.stream_events.labels("chat", "token").inc(3)
    metrics.streams_active.labels("chat").inc(gauge)
    if up is not None:
        metrics.upstream_server_up.labels("main", "a:3000").set(up)


def test_one_worker_exposes_the_same_as_a_single_process(workers):
    single = Metrics()
    workers.use(3, gauge=2)
    use(single, 3, gauge=2)
    assert workers.samples() == samples(single.exposition("")[0])
    assert workers.samples()[GAPS] == 15


@pytest.mark.parametrize(("accept", "parse"), [("", text_metrics), (OPEN_METRICS, open_metrics)])
def test_a_scrape_of_several_parses_and_has_the_families_of_one_in_order(workers, accept, parse):
    workers.use(gauge=1)
    workers.use()
    body, content_type = workers.shared.exposition(accept)
    alone, content_type_alone = Metrics().exposition(accept)
    assert families(body) == families(alone)
    assert content_type == content_type_alone
    assert {sample.name for family in parse(body.decode()) for sample in family.samples} > {
        "flowise_gateway_requests_total",
        "flowise_gateway_inter_token_seconds_bucket",
        "flowise_gateway_build_info",
    }


def test_every_family_is_exposed_before_any_worker_starts(workers):
    assert families(workers.shared.exposition("")[0]) == families(Metrics().exposition("")[0])
    assert [name for name in workers.samples() if "build_info" in name]


def test_counters_gauges_and_histograms_are_sums_and_build_info_stays_one(workers):
    workers.use(2, gauge=3)
    workers.use(5, gauge=4)
    found = workers.samples()
    assert (found[STREAMS], found[TOKENS], found[GAPS]) == (7, 6, 35)
    assert [value for name, value in found.items() if "build_info" in name] == [1]


@pytest.mark.parametrize("found", [(1, 1, 1), (1, 0.5, 1), (0, 1)])
def test_a_server_is_as_much_up_as_the_worker_says_that_has_it_lowest(workers, found):
    for up in found:
        workers.use(up=up)
    name = 'flowise_gateway_upstream_server_up{server="a:3000",upstream="main"}'
    assert workers.samples()[name] == min(found)


def test_what_a_worker_has_withdrawn_is_exposed_no_more(workers):
    """Of a server that was removed, say: one worker may do so before another one."""
    name = 'flowise_gateway_upstream_server_up{server="a:3000",upstream="main"}'
    workers.use(up=math.nan)
    assert name not in workers.samples()
    workers.use(up=1)
    assert workers.samples()[name] == 1


def test_dead_workers_keep_their_counts_and_lose_their_gauges(workers):
    first, second = workers.use(2, gauge=3), workers.use(5, gauge=4)
    before = workers.samples()
    workers.shared.forget(first)
    assert workers.samples() == {**before, STREAMS: 4}
    workers.shared.forget(second)
    lasting = {name: value for name, value in before.items() if name != STREAMS}
    assert workers.samples() == lasting


def test_many_dead_workers_keep_their_counts_and_no_memory(workers):
    before = descriptors()
    for _ in range(60):
        workers.shared.forget(workers.use(2, gauge=1))
    assert (workers.samples()[TOKENS], workers.samples()[GAPS]) == (180, 600)
    assert descriptors() == before


def descriptors():
    gc.collect()  # what the workers in this process have mapped
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_worker_that_has_counted_nothing_changes_nothing(workers):
    workers.use()
    before = workers.samples()
    starting = workers.shared.add_worker()
    assert workers.samples() == before
    workers.shared.forget(starting)
    assert workers.samples() == before


def test_a_process_that_has_no_memory_for_a_value_says_so_once_and_counts_on(workers, monkeypatch):
    """What fits is scraped."""
    real, fits = os.pwrite, 3 * FIRST_SIZE

    def write(descriptor, content, at):
        if at + len(content) > fits:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, content, at)

    monkeypatch.setattr(os, "pwrite", write)
    memory = workers.shared.add_worker()
    with monkeypatch.context() as patch:
        patch.setattr(values, "ValueClass", None)
        share_values(memory, workers.failures.append)
        metrics = Metrics()
        for number in range(3000):
            metrics.stream_events.labels(f"route{number}", "token").inc()
    assert workers.failures == ["No space left on device"]
    counted = [value for name, value in workers.samples().items() if "stream_events" in name]
    assert set(counted) == {1}
    assert 300 < len(counted) < 3000
