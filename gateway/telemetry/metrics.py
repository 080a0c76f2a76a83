"""Every metric of the gateway, by name; labels come from the configuration and from closed lists only.

Nothing here is touched per event: streams count by themselves and are recorded once, when they end. Buckets
are those of the OpenTelemetry GenAI conventions 1.41, with Envoy AI Gateway's tail for the first token.

In a worker, which is started with the library's multiprocess mode on, the same values stand in files that its
parent adds up: see `shared`.
"""

from __future__ import annotations

from typing import Literal, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase

from gateway import __version__
from gateway.flowise.observer import GAP_BOUNDS

FIRST_TOKEN_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(15, 20, 30, 45, 60),
)
DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
OVERHEAD_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
CONNECT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
STORE_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
_PREFIX = "flowise_gateway_"
M = TypeVar("M", bound=MetricWrapperBase)
_Together = Literal["livesum", "livemax"]  # what the gauges of several workers are, while they live


class Metrics:
    """One registry; times in seconds, sizes in bytes."""

    def __init__(self, *, per_caller: bool = False) -> None:
        """`per_caller`: tell API keys apart, by their names; whoever has none is `none`."""
        self.is_per_caller = per_caller
        self.registry = CollectorRegistry()
        self._bound: dict[tuple[object, ...], MetricWrapperBase] = {}  # as few as there are series
        self._declare_requests()
        self._declare_callers()
        self._declare_flowise()
        self.bytes = self._counter("bytes", "Bytes of bodies.", "route", "direction")
        self.config_reloads = self._counter(
            "config_reloads", "Times that the configuration or the keys file was read.", "result"
        )
        self.config_reload_timestamp = self._gauge(
            "config_reload_timestamp_seconds", "When one of them was last read and right.", together="livemax"
        )
        self._gauge("build_info", "Constant 1.", "version", together="livemax").labels(__version__).set(1)

    def _declare_requests(self) -> None:
        """Requests and streams, as the client sees them."""
        self.requests = self._counter(
            "requests", "Requests that have ended.", "route", "endpoint", "status", "outcome"
        )
        self.request_duration = self._histogram(
            "request_duration_seconds",
            "From the request's head to the end of its answer.",
            ("route", "endpoint"),
            DURATION_BUCKETS,
        )
        self.streams_active = self._gauge("streams_active", "Event streams with a client.", "route")
        self.runs_active = self._gauge(
            "runs_active", "Predictions inside Flowise, with and without a client.", "route"
        )
        self.stream_events = self._counter("stream_events", "Events that Flowise sent.", "route", "event")
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds",
            "From the request's head to the first token with text.",
            ("route",),
            FIRST_TOKEN_BUCKETS,
        )
        self.inter_token = self._histogram(
            "inter_token_seconds", "From one token to the next, as they came.", ("route",), GAP_BOUNDS
        )
        self.overhead = self._histogram(
            "overhead_seconds",
            "What the gateway itself added before the client's head, waits not counted.",
            ("route",),
            OVERHEAD_BUCKETS,
        )
        self.tokens = self._counter("tokens", "Tokens of predictions.", "route", "type", "source")

    def _declare_callers(self) -> None:
        """Who calls, and how much."""
        self.auth = self._counter("auth", "Credentials that were looked at.", "method", "result")
        self.caller_requests = self._counter(
            "caller_requests", "Requests that have ended, by API key; only with `per_caller`.", "caller"
        )
        self.caller_tokens = self._counter(
            "caller_tokens", "Tokens of predictions, by API key; only with `per_caller`.", "caller"
        )
        self.limited = self._counter("limited", "Requests that a limit refused.", "route", "limit")
        self.limit_store_errors = self._counter(
            "limit_store_errors", "Calls to the limit store that failed.", "kind"
        )
        self.limit_store_seconds = self._histogram(
            "limit_store_seconds", "From a call to the limit store to its answer.", (), STORE_BUCKETS
        )

    def _declare_flowise(self) -> None:
        """What happens in Flowise, and on the way there."""
        self.aborts = self._counter("aborts", "Runs that were aborted.", "route", "result")
        self.upstream_requests = self._counter(
            "upstream_requests", "Requests to Flowise that have ended.", "upstream", "server", "result"
        )
        self.upstream_connect = self._histogram(
            "upstream_connect_seconds",
            "From the begin of a connection to Flowise until it stands.",
            ("upstream", "server"),
            CONNECT_BUCKETS,
        )
        self.conversation_waits = self._counter(
            "conversation_waits", "Requests that found their conversation busy.", "route", "result"
        )

    def reloaded(self, is_right: bool) -> None:  # noqa: FBT001 - the one thing that there is to tell
        """The configuration, or the keys file, was read."""
        self.child(self.config_reloads, "ok" if is_right else "error").inc()
        if is_right:
            self.config_reload_timestamp.set_to_current_time()

    def connected(self, upstream: str, server: object, seconds: float) -> None:
        """A connection to Flowise stands."""
        self.child(self.upstream_connect, upstream, str(server)).observe(seconds)

    def child(self, metric: M, *values: str) -> M:
        """The child with these labels. The library's own look-up takes three times as long."""
        key = (metric, *values)
        child = self._bound.get(key)
        if child is None:
            child = self._bound[key] = metric.labels(*values)
        return cast(M, child)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The scrape's answer and its content type: OpenMetrics if the scraper asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(_PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str, together: _Together = "livesum") -> Gauge:
        return Gauge(_PREFIX + name, text, labels, registry=self.registry, multiprocess_mode=together)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(_PREFIX + name, text, labels, buckets=buckets, registry=self.registry)
