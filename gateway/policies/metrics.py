"""Counts each request once, when it has ended and its run is settled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gateway.exchange import Exchange
from gateway.flowise.outcome import Outcome
from gateway.flowise.usage import Usage
from gateway.telemetry.metrics import Metrics, add_observed

NO_CALLER = "none"


def metrics(counters: Metrics) -> Callable[[Exchange], None]:
    count = partial(record, counters)

    def policy(exchange: Exchange) -> None:
        exchange.on_complete(count)

    return policy


def count_unparsable(metrics: Metrics) -> None:
    """Count a request that could not be parsed, of which nothing else is known."""
    metrics.add(metrics.requests, 1, "none", "none", "400", Outcome.REFUSED.value)


def record(metrics: Metrics, exchange: Exchange) -> None:
    """Count an exchange that has ended and is settled."""
    route = exchange.route_name
    outcome = exchange.outcome or Outcome.FAILED
    metrics.add(metrics.requests, 1, route, exchange.endpoint, str(exchange.status), outcome)
    _record_times(metrics, exchange, route)
    for event, count in exchange.events.items():
        metrics.add(metrics.stream_events, count, route, event)
    if exchange.usage is not None:
        _record_tokens(metrics, exchange.usage, route)
    if exchange.upstream_result:
        where = exchange.upstream, exchange.server, exchange.upstream_result
        metrics.add(metrics.upstream_requests, 1, *where)
    if metrics.is_per_caller:
        _record_caller(metrics, exchange)
    if exchange.abort:
        metrics.add(metrics.aborts, 1, route, exchange.abort)
    metrics.add(metrics.bytes, exchange.bytes_in, route, "in")
    metrics.add(metrics.bytes, exchange.bytes_out, route, "out")


def _record_tokens(metrics: Metrics, usage: Usage, route: str) -> None:
    metrics.add(metrics.tokens, usage.input, route, "input", usage.source)
    metrics.add(metrics.tokens, usage.output, route, "output", usage.source)
    if usage.implausible_input:
        metrics.add(metrics.tokens, usage.implausible_input, route, "input", "implausible")
    if usage.implausible_output:
        metrics.add(metrics.tokens, usage.implausible_output, route, "output", "implausible")


def _record_times(metrics: Metrics, exchange: Exchange, route: str) -> None:
    timings = exchange.timings
    if timings.ended is not None:
        took = timings.ended - timings.received
        metrics.observe(metrics.request_duration, took, route, exchange.endpoint)
        if exchange.exemplar is not None:
            metrics.name_trace(exchange.exemplar, metrics.request_duration, took, route, exchange.endpoint)
    if (first_token := timings.time_to_first_token) is not None:
        metrics.observe(metrics.time_to_first_token, first_token, route)
        if exchange.exemplar is not None:
            metrics.name_trace(exchange.exemplar, metrics.time_to_first_token, first_token, route)
    if exchange.gaps is not None:
        add_observed(metrics.child(metrics.inter_token, route), *exchange.gaps)
    if (overhead := timings.overhead) is not None:
        metrics.observe(metrics.overhead, overhead, route)


def _record_caller(metrics: Metrics, exchange: Exchange) -> None:
    caller = exchange.caller.key_name or NO_CALLER
    metrics.add(metrics.caller_requests, 1, caller)
    if exchange.usage is not None:
        metrics.add(metrics.caller_tokens, exchange.usage.input + exchange.usage.output, caller)
