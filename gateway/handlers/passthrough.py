"""Relays what is no prediction; the response is not read, only passed on."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import hdrs, web

from gateway.admission.locks import ConversationLocks
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
        body = UpstreamBody("", b"")
        if exchange.document is not None:
            body = exchange.document.encode(route.chatflow, exchange.chat_id)
        request = upstream_request(exchange, upstream, body)
        transfer = Transfer(exchange, deadlines_of(upstream), self._in_flight)
        try:
            head = await transfer.call.send(upstream.pool, request)
            is_file = match.endpoint.purpose is Purpose.FILE
            headers = _file_headers(head, match.query["fileName"]) if is_file else {}
            return await deliver(exchange, transfer.call, head, Delivery(headers, self._send_timeout))
        finally:
            transfer.call.detach()


def _file_headers(head: ResponseHead, file_name: str) -> dict[str, str]:
    """Flowise 3.1.4 sends no content type for a stored file, so an image's follows from its name."""
    content_type = head.get(b"content-type")
    if not content_type and (kind := _BY_ENDING.get(file_name.rpartition(".")[2].lower())):
        return {**_FILE_HEADERS, hdrs.CONTENT_TYPE: kind}
    if content_type.split(b";")[0].strip().lower().decode("latin-1") in _RASTER:
        return dict(_FILE_HEADERS)
    disposition = dict(downward(head.fields)).get(hdrs.CONTENT_DISPOSITION, "")
    as_attachment = disposition if disposition.lower().startswith("attachment") else "attachment"
    return {**_FILE_HEADERS, hdrs.CONTENT_DISPOSITION: as_attachment}
