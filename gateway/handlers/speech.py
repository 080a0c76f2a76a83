"""Relays an answer that is read aloud, event by event as it comes."""

from __future__ import annotations

from collections.abc import Mapping

from gateway import web
from gateway.exchange import Exchange
from gateway.flowise.events import HEARTBEAT
from gateway.flowise.speech import speech_error
from gateway.relay.client import ClientStream
from gateway.relay.delivery import Delivery, deliver
from gateway.relay.outgoing import choose_server, choose_upstream, deadlines_of, upstream_request
from gateway.relay.speech import Speech, SpeechServices
from gateway.relay.writers import EventStreamWriter
from gateway.upstream.upstream import Upstream

# Flowise sends no X-Accel-Buffering here: a proxy would hold the sound back.
_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class ReadAloud:
    """`send_timeout`: seconds without progress after which a client is dropped."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        services: SpeechServices,
        send_timeout: float,
    ) -> None:
        self._upstreams = upstreams
        self._services = services
        self._send_timeout = send_timeout

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        _, route = exchange.matched
        if exchange.document is None:
            raise AssertionError("policies/body refuses speech without a body")
        upstream = choose_upstream(exchange, self._upstreams)
        body = exchange.document.encode(route.chatflow, exchange.chat_id)
        request = upstream_request(exchange, upstream, body)
        choice = choose_server(exchange, upstream)
        speech = Speech(exchange, deadlines_of(upstream), choice, upstream, self._services)
        try:
            head = await speech.call.send(request)
            if not exchange.is_streaming:
                return await deliver(exchange, speech.call, head, Delivery({}, self._send_timeout))

            def writer(client: ClientStream) -> EventStreamWriter:
                return EventStreamWriter(client, speech_error, heartbeat=(HEARTBEAT, route.heartbeat))

            delivery = Delivery(_STREAM_HEADERS, self._send_timeout, writer)
            return await deliver(exchange, speech.call, head, delivery)
        finally:
            speech.call.detach()
