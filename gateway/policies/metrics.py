"""Counts each request once, when it has ended and its run is settled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gateway.exchange import Exchange
from gateway.flowise.outcome import Outcome
from gateway.flowise.usage import Usage
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.values import add_observed

NO_CALLER = "none"


def metrics(counters: Metrics) -> Callable[[Exchange], None]:
    count = partial(record, counters)

    def policy(exchange: Exchange) -> None:
        exchange.on_complete(count)

    return policy


def count_unparsable(metrics: Metrics) -> None:
    """Count a request that could not be parsed, of which nothing else is known."""
    metrics.cell[metrics.requests, "none", "none", "400", Outcome.REFUSED.value][0] += 1


def record(metrics: Metrics, exchange: Exchange) -> None:
    """Count an exchange that has ended and is settled."""
    route, endpoint = exchange.route_name, exchange.endpoint
    outcome = exchange.outcome or Outcome.FAILED
    metrics.cell[metrics.requests, route, endpoint, str(exchange.status), outcome][0] += 1
    _record_times(metrics, exchange, route, endpoint)
    for event, count in exchange.events.items():
        metrics.cell[metrics.stream_events, route, event][0] += count
    if exchange.usage is not None:
        _record_tokens(metrics, exchange.usage, route)
    if exchange.upstream_result:
        where = exchange.upstream, exchange.server, exchange.upstream_result
        metrics.cell[metrics.upstream_requests, *where][0] += 1
    if metrics.is_per_caller:
        _record_caller(metrics, exchange)
    if exchange.abort:
        metrics.cell[metrics.aborts, route, exchange.abort][0] += 1
    metrics.cell[metrics.bytes, route, "in"][0] += exchange.bytes_in
    metrics.cell[metrics.bytes, route, "out"][0] += exchange.bytes_out


def _record_tokens(metrics: Metrics, usage: Usage, route: str) -> None:
    metrics.cell[metrics.tokens, route, "input", usage.source][0] += usage.input
    metrics.cell[metrics.tokens, route, "output", usage.source][0] += usage.output
    if usage.implausible_input:
        metrics.cell[metrics.tokens, route, "input", "implausible"][0] += usage.implausible_input
    if usage.implausible_output:
        metrics.cell[metrics.tokens, route, "output", "implausible"][0] += usage.implausible_output


def _record_times(metrics: Metrics, exchange: Exchange, route: str, endpoint: str) -> None:
    timings = exchange.timings
    if timings.ended is not None:
        took = timings.ended - timings.received
        metrics.observe_in[metrics.request_duration, route, endpoint](took)
        if exchange.exemplar is not None:
            metrics.name_trace(exchange.exemplar, metrics.request_duration, took, route, endpoint)
    if (first_token := timings.time_to_first_token) is not None:
        metrics.observe_in[metrics.time_to_first_token, route](first_token)
        if exchange.exemplar is not None:
            metrics.name_trace(exchange.exemplar, metrics.time_to_first_token, first_token, route)
    if exchange.gaps is not None:
        add_observed(metrics.child(metrics.inter_token, route), *exchange.gaps)
    if (overhead := timings.overhead) is not None:
        metrics.observe_in[metrics.overhead, route](overhead)


def _record_caller(metrics: Metrics, exchange: Exchange) -> None:
    caller = exchange.caller.key_name or NO_CALLER
    metrics.cell[metrics.caller_requests, caller][0] += 1
    if exchange.usage is not None:
        metrics.cell[metrics.caller_tokens, caller][0] += exchange.usage.input + exchange.usage.output
