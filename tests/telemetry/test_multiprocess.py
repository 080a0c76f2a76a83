"""Metrics of several workers: names, labels and values as of one process; dead workers keep their counts."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from prometheus_client import values
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_metrics

from gateway.exchange import Exchange, Timings
from gateway.flowise.observer import StreamObserver
from gateway.flowise.outcome import Outcome
from gateway.policies.metrics import record
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.multiprocess import SharedMetrics, abandon

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
TOKEN = b'message:\ndata:{"event":"token","data":"a"}\n\n'
STREAMS = 'flowise_gateway_streams_active{route="chat"}'
TOKENS = 'flowise_gateway_stream_events_total{event="token",route="chat"}'
GAPS = 'flowise_gateway_inter_token_seconds_count{route="none"}'


class Workers:
    """Simulates workers in this process, one after the other, each with its own process id."""

    def __init__(self, folder, monkeypatch):
        self._folder = folder
        self._monkeypatch = monkeypatch
        self.shared = SharedMetrics(folder)
        for name, value in self.shared.environment.items():
            monkeypatch.setenv(name, value)

    def use(self, pid, streams=1, gauge=0):
        """Count as a worker that is then killed; only its files remain."""
        with self._monkeypatch.context() as patch:
            of_its_own = values.MultiProcessValue(lambda: pid)
            patch.setattr(values, "ValueClass", of_its_own)
            use(Metrics(), streams, gauge)
            of_its_own.close_all_files()

    def files(self):
        return sorted(path.name for path in self._folder.iterdir())

    def samples(self):
        return samples(self.shared.exposition("")[0])


@pytest.fixture
def workers(tmp_path, monkeypatch):
    return Workers(tmp_path, monkeypatch)


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


def use(metrics, streams=1, gauge=0):
    for _ in range(streams):
        record(metrics, a_stream())
    metrics.stream_events.labels("chat", "token").inc(3)
    metrics.streams_active.labels("chat").inc(gauge)


def test_one_worker_exposes_the_same_as_a_single_process(workers):
    single = Metrics()
    workers.use(1, 3, gauge=2)
    use(single, 3, gauge=2)
    assert workers.samples() == samples(single.exposition("")[0])
    assert workers.samples()[GAPS] == 15


@pytest.mark.parametrize(("accept", "parse"), [("", text_metrics), (OPEN_METRICS, open_metrics)])
def test_a_scrape_of_several_parses_and_has_the_families_of_one_in_order(workers, accept, parse):
    workers.use(1, gauge=1)
    workers.use(2)
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
    workers.use(1, 2, gauge=3)
    workers.use(2, 5, gauge=4)
    found = workers.samples()
    assert (found[STREAMS], found[TOKENS], found[GAPS]) == (7, 6, 35)
    assert [value for name, value in found.items() if "build_info" in name] == [1]


def test_dead_workers_keep_their_counts_and_lose_their_gauges(workers):
    workers.use(1, 2, gauge=3)
    workers.use(2, 5, gauge=4)
    before = workers.samples()
    workers.shared.forget(1)
    assert workers.samples() == {**before, STREAMS: 4}
    workers.shared.forget(2)
    lasting = {name: value for name, value in before.items() if name != STREAMS}
    assert workers.samples() == lasting


def test_the_files_of_many_dead_workers_are_merged_into_one_pair(workers):
    for pid in range(1, 61):
        workers.use(pid, 2, gauge=1)
        workers.shared.forget(pid)
    assert workers.files() == ["counter_dead.db", "histogram_dead.db"]
    assert (workers.samples()[TOKENS], workers.samples()[GAPS]) == (180, 600)


def test_a_reused_process_id_keeps_counting(workers):
    for _ in range(2):
        workers.use(7)
        workers.shared.forget(7)
    assert workers.samples()[GAPS] == 10


def test_a_worker_without_files_can_be_forgotten(workers):
    workers.shared.forget(os.getpid())
    assert workers.files() == []


def test_an_empty_file_is_no_error(workers, tmp_path):
    workers.use(1)
    for name in ("counter_2.db", "histogram_2.db", "gauge_livesum_2.db"):
        (tmp_path / name).touch()
    before = workers.samples()
    workers.shared.forget(2)
    assert workers.samples() == before


def test_the_last_orphan_deletes_the_directory(workers, tmp_path):
    workers.use(1)
    workers.use(2)
    abandon(tmp_path, 1)
    assert workers.files() == ["counter_2.db", "gauge_livemax_2.db", "gauge_livesum_2.db", "histogram_2.db"]
    abandon(tmp_path, 2)
    assert not tmp_path.exists()
