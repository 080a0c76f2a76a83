"""Passes the small requests of the widget on: settings, abort, feedback, leads, attachments, uploaded files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from time import monotonic

from aiohttp import hdrs, web

from gateway.admission.locks import ConversationLocks
from gateway.errors import UpstreamBadReply
from gateway.exchange import Exchange, UpstreamBody
from gateway.flowise.endpoints import Purpose, upstream_target
from gateway.relay.deadlines import Deadlines
from gateway.relay.delivery import Delivery, deliver
from gateway.relay.registry import InFlight
from gateway.relay.transfer import Transfer
from gateway.upstream.headers import UpstreamRequest, downward
from gateway.upstream.response_parser import ResponseHead
from gateway.upstream.upstream import ForwardedIdentity, Upstream

# A file in an answer is somebody's upload: it must not become a page of this site.
_FILE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
_RASTER = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp")
_BY_ENDING = {**{kind.partition("/")[2]: kind for kind in _RASTER}, "jpg": "image/jpeg"}


class Passthrough:
    """The handler for every endpoint that needs no other."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        calls: InFlight,
        turns: ConversationLocks,
        send_timeout: float,
    ) -> None:
        self._upstreams = upstreams
        self._calls = calls
        self._turns = turns
        self._send_timeout = send_timeout

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        """Answer one request."""
        route, found = exchange.route, exchange.match
        if route is None or found is None:
            raise AssertionError("the rooms before have found the route")
        upstream = self._upstreams[route.upstream]
        exchange.upstream, exchange.server = upstream.name, str(upstream.server)
        if found.endpoint.purpose is Purpose.ABORT and exchange.chat_id is not None:
            self._turns.cancel_waiter((upstream.home, exchange.chat_id))
        request = _request(exchange, upstream)
        transfer = Transfer(exchange, _deadlines(upstream), self._calls)
        try:
            head = await transfer.call.send(upstream.pool, request)
            is_file = found.endpoint.purpose is Purpose.FILE
            if (fault := _fault(head, is_file=is_file)) is not None:
                transfer.call.close(fault)
                raise fault
            headers = _file_headers(head, found.query["fileName"]) if is_file else {}
            return await deliver(exchange, transfer.call, head, Delivery(headers, self._send_timeout))
        finally:
            transfer.call.leave()  # nothing happens if all was delivered


def _request(exchange: Exchange, upstream: Upstream) -> UpstreamRequest:
    route, found = exchange.route, exchange.match
    if route is None or found is None:
        raise AssertionError("the rooms before have found the route")
    body = UpstreamBody("", b"")
    if exchange.document is not None:
        body = exchange.document.encode(route.chatflow, exchange.chat_id)
    sender = ForwardedIdentity(exchange.request_id, exchange.client)
    fields = upstream.fields(sender, exchange.request.raw_headers, body.content_type)
    target = upstream_target(found, route.chatflow, exchange.chat_id, upstream.server.prefix)
    exchange.timings.upstream_written = monotonic()
    return UpstreamRequest(exchange.request.method, target, fields, body.content)


def _deadlines(upstream: Upstream) -> Deadlines:
    timeouts = upstream.settings.timeouts
    started = monotonic()
    return Deadlines(timeouts.head, math.inf, timeouts.idle, timeouts.total, started_at=started)


def _fault(head: ResponseHead, *, is_file: bool) -> UpstreamBadReply | None:
    """A redirect, or Flowise's user interface, which answers every path that it does not know."""
    if 300 <= head.status < 400 and head.status != 304:
        return UpstreamBadReply(f"Flowise answered with a redirect ({head.status}).")
    if head.status == 200 and not is_file and head.get(b"content-type").lower().startswith(b"text/html"):
        return UpstreamBadReply("Flowise answered with a web page; is the upstream's URL right?")
    return None


def _file_headers(head: ResponseHead, file_name: str) -> dict[str, str]:
    """Flowise 3.1.4 names no type for what it has stored, so that of an image goes by its name."""
    told = head.get(b"content-type")
    if not told and (kind := _BY_ENDING.get(file_name.rpartition(".")[2].lower())):
        return {**_FILE_HEADERS, hdrs.CONTENT_TYPE: kind}
    if told.split(b";")[0].strip().lower().decode("latin-1") in _RASTER:
        return dict(_FILE_HEADERS)
    disposition = dict(downward(head.fields)).get(hdrs.CONTENT_DISPOSITION, "")
    named = disposition if disposition.lower().startswith("attachment") else "attachment"
    return {**_FILE_HEADERS, hdrs.CONTENT_DISPOSITION: named}
