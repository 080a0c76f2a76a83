"""Counts each request once, when it has ended and its run is settled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from gateway.exchange import Exchange
from gateway.flowise.outcome import Outcome
from gateway.flowise.usage import Usage
from gateway.telemetry.metrics import Metrics

NO_CALLER = "none"


def metrics(counters: Metrics) -> Callable[[Exchange], None]:
    count = partial(record, counters)

    def policy(exchange: Exchange) -> None:
        exchange.on_complete(count)

    return policy


def count_unparsable(metrics: Metrics) -> None:
    """Count a request that could not be parsed, of which nothing else is known."""
    metrics.child(metrics.requests, "none", "none", "400", Outcome.REFUSED.value).inc()


def record(metrics: Metrics, exchange: Exchange) -> None:
    """Count an exchange that has ended and is settled."""
    route = exchange.route_name
    outcome = exchange.outcome or Outcome.FAILED
    metrics.child(metrics.requests, route, exchange.endpoint, str(exchange.status), outcome.value).inc()
    _record_times(metrics, exchange, route)
    for event, count in exchange.events.items():
        metrics.child(metrics.stream_events, route, event).inc(count)
    if exchange.usage is not None:
        _record_tokens(metrics, exchange.usage, route)
    if exchange.upstream_result:
        where = exchange.upstream, exchange.server, exchange.upstream_result
        metrics.child(metrics.upstream_requests, *where).inc()
    if metrics.is_per_caller:
        _record_caller(metrics, exchange)
    if exchange.abort:
        metrics.child(metrics.aborts, route, exchange.abort).inc()
    metrics.child(metrics.bytes, route, "in").inc(exchange.bytes_in)
    metrics.child(metrics.bytes, route, "out").inc(exchange.bytes_out)


def _record_tokens(metrics: Metrics, usage: Usage, route: str) -> None:
    metrics.child(metrics.tokens, route, "input", usage.source).inc(usage.input)
    metrics.child(metrics.tokens, route, "output", usage.source).inc(usage.output)
    if usage.implausible_input:
        metrics.child(metrics.tokens, route, "input", "implausible").inc(usage.implausible_input)
    if usage.implausible_output:
        metrics.child(metrics.tokens, route, "output", "implausible").inc(usage.implausible_output)


def _record_times(metrics: Metrics, exchange: Exchange, route: str) -> None:
    timings = exchange.timings
    if timings.ended is not None:
        metrics.child(metrics.request_duration, route, exchange.endpoint).observe(
            timings.ended - timings.received
        )
    if (first_token := timings.time_to_first_token) is not None:
        metrics.child(metrics.time_to_first_token, route).observe(first_token)
    if exchange.gaps is not None:
        _add_gaps(metrics, route, *exchange.gaps)
    if (overhead := timings.overhead) is not None:
        metrics.child(metrics.overhead, route).observe(overhead)


def _add_gaps(metrics: Metrics, route: str, counts: Sequence[int], total: float) -> None:
    """Add a stream's own histogram. The library has no public way to add more than one observation."""
    histogram = metrics.child(metrics.inter_token, route)
    for bucket, count in zip(histogram._buckets, counts, strict=True):  # noqa: SLF001 - see the docstring
        if count:
            bucket.inc(count)
    histogram._sum.inc(total)  # noqa: SLF001 - see the docstring


def _record_caller(metrics: Metrics, exchange: Exchange) -> None:
    caller = exchange.caller.key_name or NO_CALLER
    metrics.child(metrics.caller_requests, caller).inc()
    if exchange.usage is not None:
        metrics.child(metrics.caller_tokens, caller).inc(exchange.usage.input + exchange.usage.output)
