"""Relays what is no prediction; the response is not read, only passed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aiohttp import hdrs, web

from gateway.admission.locks import ConversationLocks
from gateway.config import Route
from gateway.exchange import Exchange, UpstreamBody
from gateway.flowise.endpoints import Purpose
from gateway.relay.delivery import Delivery, deliver
from gateway.relay.outgoing import choose_upstream, deadlines_of, upstream_request
from gateway.relay.registry import InFlight
from gateway.relay.transfer import Transfer
from gateway.upstream.headers import downward
from gateway.upstream.response_parser import ResponseHead
from gateway.upstream.upstream import Upstream

# An uploaded file is a stranger's content: it must not become a page of this site.
_FILE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
_RASTER = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp")
_BY_ENDING = {**{kind.partition("/")[2]: kind for kind in _RASTER}, "jpg": "image/jpeg"}


class Passthrough:
    """`send_timeout`: seconds without progress after which a client is dropped."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        in_flight: InFlight,
        locks: ConversationLocks,
        send_timeout: float,
    ) -> None:
        self._upstreams = upstreams
        self._in_flight = in_flight
        self._locks = locks
        self._send_timeout = send_timeout

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        match, route = exchange.matched
        upstream = choose_upstream(exchange, self._upstreams)
        if match.endpoint.purpose is Purpose.ABORT and exchange.chat_id is not None:
            self._locks.cancel_waiter((upstream.origin, exchange.chat_id))
        request = upstream_request(exchange, upstream, _body(exchange, route))
        is_whole = match.endpoint.purpose is Purpose.STORE
        transfer = Transfer(exchange, deadlines_of(upstream, total_only=is_whole), self._in_flight)
        try:
            head = await transfer.call.send(upstream.pool, request)
            exchange.body_sent()
            is_file = match.endpoint.purpose is Purpose.FILE
            headers = _file_headers(head, exchange) if is_file else {}
            return await deliver(exchange, transfer.call, head, Delivery(headers, self._send_timeout))
        finally:
            transfer.call.detach()


def _body(exchange: Exchange, route: Route) -> UpstreamBody:
    """The body for Flowise. What is stored is never streamed: Flowise would answer no error then (unknown-stream)."""
    if exchange.document is not None:
        return exchange.document.encode(route.chatflow, exchange.chat_id)
    prediction = exchange.prediction
    if prediction is None:
        return UpstreamBody("", b"")
    changes = replace(exchange.changes, streaming=False if prediction.streaming else None)
    exchange.prediction = prediction.without_body()  # held by the request alone, until it is sent
    if exchange.upload is not None:
        return exchange.upload(changes)
    return UpstreamBody("application/json", prediction.written(changes))


def _file_headers(head: ResponseHead, exchange: Exchange) -> dict[str, str]:
    """Flowise 3.1.4 sends no content type for a stored file, so an image's follows from its name.

    A file that is asked for by POST is saved, never shown.
    """
    match, _ = exchange.matched
    file_name = match.query.get("fileName")
    if file_name is None:
        return {**_FILE_HEADERS, hdrs.CONTENT_DISPOSITION: _as_attachment(head)}
    content_type = head.get(b"content-type")
    if not content_type and (kind := _BY_ENDING.get(file_name.rpartition(".")[2].lower())):
        return {**_FILE_HEADERS, hdrs.CONTENT_TYPE: kind}
    if content_type.split(b";")[0].strip().lower().decode("latin-1") in _RASTER:
        return dict(_FILE_HEADERS)
    return {**_FILE_HEADERS, hdrs.CONTENT_DISPOSITION: _as_attachment(head)}


def _as_attachment(head: ResponseHead) -> str:
    disposition = dict(downward(head.fields)).get(hdrs.CONTENT_DISPOSITION, "")
    return disposition if disposition.lower().startswith("attachment") else "attachment"
