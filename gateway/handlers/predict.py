"""Sends a prediction to Flowise and relays its reply as it comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from aiohttp import hdrs
from msgspec.structs import replace

from gateway import web
from gateway.config import Route
from gateway.exchange import Exchange, UpstreamBody
from gateway.flowise.error_responses import error_tail
from gateway.flowise.events import HEARTBEAT
from gateway.relay.client import ClientStream
from gateway.relay.delivery import Delivery, deliver
from gateway.relay.outgoing import choose_server, choose_upstream, deadlines_of, upstream_request
from gateway.relay.run import PredictionRun, RunServices
from gateway.relay.whole_answer import answer_without
from gateway.relay.writers import EventStreamWriter
from gateway.upstream.response_parser import Framing, ResponseHead
from gateway.upstream.upstream import Upstream

NO_CACHE = "no-cache"
# Flowise sends these itself since 2.1.2; a stream of an older one must not be buffered by proxies either.
_STREAM_HEADERS = ((hdrs.CACHE_CONTROL, NO_CACHE), ("X-Accel-Buffering", "no"))


class Predict:
    """`send_timeout`: seconds without progress after which a client is dropped."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        services: RunServices,
        send_timeout: float,
    ) -> None:
        self._upstreams = upstreams
        self._services = services
        self._of_answer = Delivery({}, send_timeout)
        self._of_stream: dict[str, Delivery] = {}  # by the name of the route
        self._send_timeout = send_timeout

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        _, route = exchange.matched
        if exchange.prediction is None:
            raise AssertionError("policies/body refuses a prediction without a body")
        upstream = choose_upstream(exchange, self._upstreams)
        may_stream = exchange.prediction.streaming and self._services.chatflows.may_stream(route)
        deadlines = deadlines_of(upstream, total_only=not may_stream)
        choice = choose_server(exchange, upstream)
        run = PredictionRun(exchange, deadlines, upstream, choice, self._services)
        try:
            head = await run.call.send(
                upstream_request(exchange, upstream, _body(exchange, may_stream=may_stream))
            )
            exchange.body_sent()
            if route.events.withhold and _is_answer(exchange, head):
                services = self._services
                return await answer_without(
                    run, head, route.events.withhold, services.counting.budget, services.reading
                )
            return await deliver(exchange, run.call, head, self._delivery(exchange, head, route))
        finally:
            run.call.detach()

    def _delivery(self, exchange: Exchange, head: ResponseHead, route: Route) -> Delivery:
        if not exchange.is_streaming:
            return self._of_answer
        delivery = self._of_stream.get(route.name)
        if delivery is None:
            metrics = self._services.metrics
            open_bodies = metrics.cell[metrics.streams_active, route.name]
            delivery = self._of_stream[route.name] = Delivery(
                {}, self._send_timeout, _event_writers(route), open_bodies, _STREAM_HEADERS
            )
        if route.no_transform:
            return replace(delivery, headers={hdrs.CACHE_CONTROL: _not_to_be_transformed(exchange, head)})
        return delivery


def _not_to_be_transformed(exchange: Exchange, head: ResponseHead) -> str:
    """The value of Cache-Control, which becomes that of the exchange too: below `/t/` it has one of its own."""
    given = exchange.response_headers.get(hdrs.CACHE_CONTROL) or head.get(b"cache-control").decode("latin-1")
    value = given or NO_CACHE
    if "no-transform" not in value.lower():
        value = f"{value}, no-transform"
    if hdrs.CACHE_CONTROL in exchange.response_headers:
        exchange.response_headers[hdrs.CACHE_CONTROL] = value
    return value


def _body(exchange: Exchange, *, may_stream: bool) -> UpstreamBody:
    prediction = exchange.prediction
    if prediction is None:
        raise AssertionError("policies/body refuses a prediction without a body")
    changes = exchange.changes
    if may_stream != prediction.streaming:
        changes = replace(changes, streaming=may_stream)
    exchange.prediction = prediction.without_body()  # held by the request alone, until it is sent
    if exchange.upload is not None:
        return exchange.upload(changes)
    return UpstreamBody("application/json", prediction.written(changes))


def _is_answer(exchange: Exchange, head: ResponseHead) -> bool:
    """Whether this is what a run has answered, in one piece; an error has nothing of it."""
    return not exchange.is_streaming and head.status < 400 and head.framing is not Framing.NONE


def _event_writers(route: Route) -> Callable[[ClientStream], EventStreamWriter]:
    return partial(
        EventStreamWriter,
        error_tail=error_tail,
        withheld=route.events.withhold,
        heartbeat=(HEARTBEAT, route.heartbeat),
    )
