"""Every metric of the gateway. Label values come from the configuration and from closed lists, never from the wire.

Nothing here is called per event: a stream counts by itself and is recorded once, when it ends. Buckets are those of the
OpenTelemetry GenAI conventions 1.41, plus Envoy AI Gateway's upper ones for the first token.

The values of a worker are in memory that the supervisor reads; see `multiprocess`.
"""

from __future__ import annotations

import gc
import itertools
import math
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from time import monotonic, time
from typing import Any, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from gateway import __version__
from gateway.flowise.observer import GAP_BOUNDS
from gateway.telemetry.processes import RecentMaximum, values_of
from gateway.telemetry.request_counts import Counts, counted
from gateway.telemetry.values import Cell, cell_of, observer

FIRST_TOKEN_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(15, 20, 30, 45, 60),
)
DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
OVERHEAD_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
CONNECT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
STORE_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
PREFIX = "flowise_gateway_"
M = TypeVar("M", bound=MetricWrapperBase)
Made = TypeVar("Made")
GC_EVERY = 5.0  # seconds between two looks at the garbage collector
Processes = Callable[
    [], Iterable[tuple[str, int]]
]  # number of the worker and process id; "": the parent, or no workers
_Merge = Literal["livesum", "livemax", "livemin"]  # how the gauges of living workers are merged


class _ByLabels(dict[tuple[Any, ...], Made]):
    """Made when it is first looked up; afterwards a look is no call of a Python function."""

    def __init__(self, make: Callable[..., Made]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: tuple[Any, ...]) -> Made:
        made = self[key] = self._make(*key)
        return made


class Metrics:
    """One registry; times in seconds, sizes in bytes."""

    def __init__(self, *, per_caller: bool = False) -> None:
        """`per_caller`: count requests and tokens by the name of the API key."""
        self.is_per_caller = per_caller
        self.registry = CollectorRegistry()
        self._bound: dict[tuple[object, ...], MetricWrapperBase] = {}  # one entry for each series
        # Likewise, by metric and label values: `metrics.cell[metrics.bytes, "chat", "in"][0] += 100`, and
        # `metrics.observe_in[metrics.overhead, "chat"](0.1)`; for the loop's thread only.
        self.cell: _ByLabels[Cell] = _ByLabels(lambda counter, *labels: cell_of(self.child(counter, *labels)))
        self.observe_in: _ByLabels[Callable[[float], None]] = _ByLabels(
            lambda histogram, *labels: observer(self.child(histogram, *labels))
        )
        self._declare_requests()
        self._declare_callers()
        self._declare_flowise()
        self.bytes = self._counter("bytes", "Bytes of request and response bodies.", "route", "direction")
        self.loop_lag = self._histogram(
            "loop_lag_seconds", "How late the event loop is, measured 20 times a second.", (), LAG_BUCKETS
        )
        self.traces = self._counter("traces", "Requests whose trace was exported, or lost.", "result")
        self.log_lines_lost = self._counter("log_lines_lost", "Log lines that nothing took.")
        self.config_reloads = self._counter(
            "config_reloads", "Reads of the configuration or the keys file.", "result"
        )
        self.config_reload_timestamp = self._gauge(
            "config_reload_timestamp_seconds",
            "Time of the last valid configuration or keys file.",
            merge="livemax",
        )
        self._declare_port()
        self._declare_python()
        self._gauge("build_info", "Constant 1.", "version", merge="livemax").labels(__version__).set(1)

    def _declare_port(self) -> None:
        self.connections_closed = self._counter(
            "connections_closed", "Connections of clients that the gateway has closed.", "reason"
        )
        self.tls_handshakes = self._counter(
            "tls_handshakes", "Handshakes on the public port that have ended.", "result"
        )
        self.tls_certificate_expiry = self._gauge(
            "tls_certificate_expiry_timestamp_seconds",
            "Time when the certificate of the public port expires, or one of its issuers.",
            "certificate",
            merge="livemin",
        )

    def _declare_requests(self) -> None:
        self.requests = self._counter(
            "requests", "Completed requests.", "route", "endpoint", "status", "outcome"
        )
        self.request_duration = self._histogram(
            "request_duration_seconds",
            "Time from receiving the request head to the end of the response.",
            ("route", "endpoint"),
            DURATION_BUCKETS,
        )
        self.streams_active = self._gauge("streams_active", "Open event streams to clients.", "route")
        self.runs_active = self._gauge(
            "runs_active", "Predictions running in Flowise, with or without a client.", "route"
        )
        self.stream_events = self._counter("stream_events", "Events received from Flowise.", "route", "event")
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds",
            "Time from receiving the request head to the first non-empty token.",
            ("route",),
            FIRST_TOKEN_BUCKETS,
        )
        self.inter_token = self._histogram(
            "inter_token_seconds", "Time between consecutive tokens.", ("route",), GAP_BOUNDS
        )
        self.overhead = self._histogram(
            "overhead_seconds",
            "Time the gateway added before the response head, without waits.",
            ("route",),
            OVERHEAD_BUCKETS,
        )
        self.tokens = self._counter("tokens", "Tokens of predictions.", "route", "type", "source")

    def _declare_callers(self) -> None:
        self.auth = self._counter("auth", "Checked credentials.", "method", "result")
        self.caller_requests = self._counter(
            "caller_requests", "Completed requests by API key; only with `per_caller`.", "caller"
        )
        self.caller_tokens = self._counter(
            "caller_tokens", "Tokens of predictions by API key; only with `per_caller`.", "caller"
        )
        self.limited = self._counter("limited", "Requests rejected by a limit.", "route", "limit")
        self.limit_store_errors = self._counter(
            "limit_store_errors", "Failed calls to the limit store.", "kind"
        )
        self.limit_store_seconds = self._histogram(
            "limit_store_seconds", "Duration of calls to the limit store.", (), STORE_BUCKETS
        )

    def _declare_flowise(self) -> None:
        self.aborts = self._counter("aborts", "Aborted predictions.", "route", "result")
        self.upstream_requests = self._counter(
            "upstream_requests", "Completed requests to Flowise.", "upstream", "server", "result"
        )
        self.upstream_connect = self._histogram(
            "upstream_connect_seconds",
            "Time to open a connection to Flowise.",
            ("upstream", "server"),
            CONNECT_BUCKETS,
        )
        self.upstream_server_up = self._gauge(
            "upstream_server_up",
            "Whether a server gets requests; of a name with several addresses the share that does.",
            "upstream",
            "server",
            merge="livemin",
        )
        self.upstream_ejections = self._counter(
            "upstream_ejections",
            "Times that failures of requests took a server out.",
            *("upstream", "server", "reason"),
        )
        self.upstream_failovers = self._counter(
            "upstream_failovers",
            "Requests that went to another server, because there was no connection.",
            *("upstream", "reason"),
        )
        self.conversation_waits = self._counter(
            "conversation_waits", "Requests whose conversation was busy.", "route", "result"
        )

    def _declare_python(self) -> None:
        self.worker = ""  # its number
        self.worker_loop_lag = self._gauge(
            "worker_loop_lag_seconds",
            "Longest lag of the event loop in the last 30 to 60 seconds.",
            "worker",
            merge="livemax",
        )
        self._recent_lag = RecentMaximum()
        self._collected: dict[tuple[str, str], float] = {}
        self._next_look = 0.0
        texts = {
            "collections": "Runs of the garbage collector.",
            "objects_collected": "Objects that the garbage collector has freed.",
            "objects_uncollectable": "Objects that the garbage collector could not free.",
        }
        for what, text in texts.items():
            counter = Counter(f"python_gc_{what}", text, ["generation"], registry=self.registry)
            setattr(self, f"python_gc_{what}", counter)
        self.python_info = Gauge(
            "python_info",
            "Constant 1.",
            ["implementation", "version"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.python_info.labels(platform.python_implementation(), platform.python_version()).set(1)

    def lagged(self, seconds: float) -> None:
        """Record how late the event loop was."""
        self.loop_lag.observe(seconds)
        self.child(self.worker_loop_lag, self.worker).set(self._recent_lag.add(seconds, monotonic()))

    def tick(self, now: float) -> None:
        """For the coarse timer: what the garbage collector has done."""
        if now < self._next_look:
            return
        self._next_look = now + GC_EVERY
        for generation, stats in enumerate(gc.get_stats()):
            for what, value in stats.items():
                name = what if what == "collections" else f"objects_{what}"
                key = name, str(generation)
                counter: Counter = getattr(self, f"python_gc_{name}")
                self.child(counter, str(generation)).inc(value - self._collected.get(key, 0))
                self._collected[key] = value

    def observe_processes(self, processes: Processes) -> None:
        """Also expose what the system knows of these processes."""
        self.registry.register(ProcessMetrics(processes))

    def reloaded(self, is_valid: bool) -> None:  # noqa: FBT001 - the only argument
        """Count a read of the configuration or the keys file."""
        self.child(self.config_reloads, "ok" if is_valid else "error").inc()
        if is_valid:
            self.config_reload_timestamp.set_to_current_time()

    def connection_closed(self, reason: str) -> None:
        """Count a connection that the gateway closes."""
        self.child(self.connections_closed, reason).inc()

    def handshake(self, result: str) -> None:
        """Count a handshake on the public port."""
        self.child(self.tls_handshakes, result).inc()

    def certificate_expires(self, certificate: str, expires: float) -> None:
        """`certificate`: the name of its file. `expires`: seconds since the epoch."""
        self.child(self.tls_certificate_expiry, certificate).set(expires)

    def child(self, metric: M, *values: str) -> M:
        """The metric's child with these label values, cached: `labels()` takes three times as long."""
        key = (metric, *values)
        child = self._bound.get(key)
        if child is None:
            child = self._bound[key] = metric.labels(*values)
        return child  # type: ignore[return-value]  # of the metric's type; `cast` is a call for each sample

    def forget(self, gauge: Gauge, *values: str) -> None:
        """Expose the value with these labels no more: what it was about is gone."""
        self.child(gauge, *values).set(math.nan)  # in the memory that the parent reads it cannot be removed
        del self._bound[gauge, *values]
        self.cell.pop((gauge, *values), None)
        gauge.remove(*values)

    def name_trace(self, labels: dict[str, str], histogram: Histogram, amount: float, *values: str) -> None:
        """Let the bucket of an amount name the trace that it was measured in; `labels` are an OpenMetrics exemplar's.

        The library's `observe` checks the names of the labels each time, which takes longer than all else.
        """
        child = self.child(histogram, *values)
        at = bisect_left(child._upper_bounds, amount)  # noqa: SLF001 - see the docstring
        child._buckets[at].set_exemplar(Exemplar(labels, amount, time()))  # noqa: SLF001 - see the docstring

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The response body of a scrape and its content type, in the format that `accept` prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def counts(self) -> Counts:
        """Requests and first tokens so far, for the live page."""
        families = itertools.chain(self.requests.collect(), self.time_to_first_token.collect())
        samples = (sample for family in families for sample in family.samples)
        return counted((sample.name, sample.labels, sample.value) for sample in samples)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str, merge: _Merge = "livesum") -> Gauge:
        return Gauge(PREFIX + name, text, labels, registry=self.registry, multiprocess_mode=merge)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(PREFIX + name, text, labels, buckets=buckets, registry=self.registry)


class ProcessMetrics(Collector):
    """What the system knows of the processes of this gateway, with the names that Prometheus's clients give it."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def describe(self) -> Iterable[Metric]:
        """No names: what a system does not know has no series."""
        return ()

    def collect(self) -> Iterator[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for worker, pid in self._processes():
            for kind, name, text, value in values_of(pid):
                family = families.get(name)
                if family is None:
                    make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
                    family = families[name] = make(name, text, labels=["worker"])
                family.add_metric([worker], value)
        yield from families.values()
