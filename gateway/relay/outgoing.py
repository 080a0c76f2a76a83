"""What relayed requests to Flowise have in common: upstream, identity, deadlines, and what no reply may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from time import monotonic

from gateway.errors import UpstreamBadReply
from gateway.exchange import Exchange, UpstreamBody
from gateway.flowise.endpoints import upstream_target
from gateway.relay.deadlines import Deadlines
from gateway.upstream.headers import UpstreamRequest, check_coding
from gateway.upstream.response_parser import Framing, ResponseHead
from gateway.upstream.upstream import ForwardedIdentity, Upstream


def choose_upstream(exchange: Exchange, upstreams: Mapping[str, Upstream]) -> Upstream:
    """The upstream of the exchange's route; noted in the exchange."""
    _, route = exchange.matched
    upstream = upstreams[route.upstream]
    exchange.upstream, exchange.server = upstream.name, str(upstream.server)
    return upstream


def identity_of(exchange: Exchange) -> ForwardedIdentity:
    return ForwardedIdentity(exchange.request_id, exchange.client)


def upstream_request(exchange: Exchange, upstream: Upstream, body: UpstreamBody) -> UpstreamRequest:
    match, route = exchange.matched
    fields = upstream.fields(identity_of(exchange), exchange.request.raw_headers, body.content_type)
    target = upstream_target(match, route.chatflow, exchange.chat_id, upstream.server.prefix)
    exchange.timings.upstream_written = monotonic()
    return UpstreamRequest(exchange.request.method, target, fields, body.content)


def deadlines_of(upstream: Upstream, *, total_only: bool = False) -> Deadlines:
    """`total_only`: the head comes together with the whole reply."""
    timeouts = upstream.settings.timeouts
    return Deadlines(
        send=timeouts.send,
        head=math.inf if total_only else timeouts.head,
        first_event=math.inf if total_only else timeouts.first_event,
        idle=math.inf if total_only else timeouts.idle,
        total=timeouts.total,
        started_at=monotonic(),
    )


def check_head(head: ResponseHead, *, may_be_unmodified: bool = False, may_be_html: bool = False) -> None:
    """Refuse what Flowise's API does not send.

    Raises:
        UpstreamBadReply: a redirect; a web page, because Flowise answers unknown paths with its user interface; or a
            compressed body.
    """
    if 300 <= head.status < 400 and not (may_be_unmodified and head.status == 304):
        raise UpstreamBadReply(f"Flowise answered with a redirect ({head.status}). Check the upstream's URL.")
    if head.framing is not Framing.NONE:
        check_coding(head.fields)
    is_html = head.get(b"content-type").lower().startswith(b"text/html")
    if head.status == 200 and is_html and not may_be_html:
        raise UpstreamBadReply("Flowise answered with a web page. Check the upstream's URL.")
