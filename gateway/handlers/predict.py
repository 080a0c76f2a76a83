"""Asks Flowise a prediction and passes its answer on as it comes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from time import monotonic

from aiohttp import hdrs, web

from gateway.config import Route
from gateway.errors import UpstreamBadReply
from gateway.exchange import Exchange, UpstreamBody
from gateway.flowise.endpoints import upstream_target
from gateway.flowise.error_responses import error_tail
from gateway.flowise.events import HEARTBEAT
from gateway.relay.client import ClientStream
from gateway.relay.deadlines import Deadlines
from gateway.relay.delivery import Delivery, deliver
from gateway.relay.run import Run, RunServices
from gateway.relay.writers import EventStreamWriter, ResponseWriter
from gateway.upstream.flowise_api import Streamability
from gateway.upstream.headers import UpstreamRequest
from gateway.upstream.response_parser import ResponseHead
from gateway.upstream.upstream import ForwardedIdentity, Upstream

# Flowise sends these itself since 2.1.2; an older one must not be buffered either.
_STREAM_HEADERS = {hdrs.CACHE_CONTROL: "no-cache", "X-Accel-Buffering": "no"}


class Predict:
    """The handler."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        streamability: Streamability,
        services: RunServices,
        send_timeout: float,
    ) -> None:
        self._upstreams = upstreams
        self._streamability = streamability
        self._services = services
        self._send_timeout = send_timeout

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        """Answer one prediction."""
        route = exchange.route
        if route is None or exchange.prediction is None:
            raise AssertionError("the rooms before have read route and prediction")
        upstream = self._upstreams[route.upstream]
        exchange.upstream, exchange.server = upstream.name, str(upstream.server)
        may_stream = exchange.prediction.streaming and self._streamability.may_stream(route)
        run = Run(exchange, _deadlines(upstream, may_stream=may_stream), self._services)
        try:
            head = await run.call.send(upstream.pool, _request(exchange, upstream, may_stream=may_stream))
            exchange.body_sent()
            return await deliver(exchange, run.call, head, self._delivery(run, head, route))
        finally:
            run.call.leave()  # nothing happens if all was delivered

    def _delivery(self, run: Run, head: ResponseHead, route: Route) -> Delivery:
        if (fault := _fault(head)) is not None:
            run.call.close(fault)
            raise fault
        if not run.exchange.is_streaming:
            return Delivery({}, self._send_timeout)
        missing = {
            name: value for name, value in _STREAM_HEADERS.items() if not head.get(name.lower().encode())
        }
        streams = self._services.metrics.streams_active.labels(route.name)
        return Delivery(
            missing,
            self._send_timeout,
            lambda client: _event_outlet(client, route),
            streams.track_inprogress(),
        )


def _request(exchange: Exchange, upstream: Upstream, *, may_stream: bool) -> UpstreamRequest:
    prediction = exchange.prediction
    if exchange.match is None or exchange.route is None or prediction is None:
        raise AssertionError("the rooms before have read these")
    changes = replace(exchange.changes, streaming=may_stream if may_stream != prediction.streaming else None)
    body = (
        UpstreamBody("application/json", prediction.encode(changes))
        if exchange.upload is None
        else exchange.upload(changes)
    )
    exchange.prediction = prediction.without_body()  # what is sent is held by the request alone
    sender = ForwardedIdentity(exchange.request_id, exchange.client)
    fields = upstream.fields(sender, exchange.request.raw_headers, body.content_type)
    target = upstream_target(exchange.match, exchange.route.chatflow, prefix=upstream.server.prefix)
    exchange.timings.upstream_written = monotonic()
    return UpstreamRequest("POST", target, fields, body.content)


def _deadlines(upstream: Upstream, *, may_stream: bool) -> Deadlines:
    """A head that comes only with the whole answer has no deadline of its own."""
    timeouts = upstream.settings.timeouts
    return Deadlines(
        head=timeouts.head if may_stream else math.inf,
        first_event=timeouts.first_event if may_stream else math.inf,
        idle=timeouts.idle if may_stream else math.inf,
        total=timeouts.total,
        started_at=monotonic(),
    )


def _fault(head: ResponseHead) -> UpstreamBadReply | None:
    """What no prediction is answered with: a redirect, or Flowise's user interface (PROTOCOL 1.1)."""
    if 300 <= head.status < 400:
        return UpstreamBadReply(f"Flowise answered a prediction with a redirect ({head.status}).")
    if head.status == 200 and head.get(b"content-type").lower().startswith(b"text/html"):
        return UpstreamBadReply("Flowise answered a prediction with a web page; is the upstream's URL right?")
    return None


def _event_outlet(client: ClientStream, route: Route) -> ResponseWriter:
    return EventStreamWriter(
        client, error_tail, withheld=route.events.withhold, heartbeat=(HEARTBEAT, route.heartbeat)
    )
