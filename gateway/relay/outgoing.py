"""What relayed requests to Flowise have in common: upstream, identity, deadlines, and what no reply may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from time import monotonic

from gateway.errors import UpstreamBadReply
from gateway.exchange import Exchange, UpstreamBody
from gateway.flowise.endpoints import upstream_target
from gateway.http.forwarded import UNIX_PEER
from gateway.relay.deadlines import Deadlines
from gateway.upstream.choice import Choice, Connector
from gateway.upstream.headers import PROXY_REFUSES, UpstreamRequest, check_coding, refusal_of_proxy
from gateway.upstream.response_parser import Framing, ResponseHead
from gateway.upstream.upstream import ForwardedIdentity, Upstream


def choose_upstream(exchange: Exchange, upstreams: Mapping[str, Upstream]) -> Upstream:
    """The upstream of the exchange's route; noted in the exchange."""
    _, route = exchange.matched
    upstream = upstreams[route.upstream]
    exchange.upstream = upstream.name
    return upstream


def choose_server(exchange: Exchange, upstream: Upstream) -> Choice:
    """The server for the exchange's conversation; noted in the exchange.

    Raises:
        UpstreamUnreachable: no server is up.
    """
    choice = upstream.choose(exchange.chat_id)
    note_server(exchange, choice)
    return choice


def note_server(exchange: Exchange, choice: Connector | None) -> None:
    """Note the server that has the request now; None: it never had one."""
    exchange.server = "" if choice is None else choice.server.label


def identity_of(exchange: Exchange) -> ForwardedIdentity:
    client = "" if exchange.client == UNIX_PEER else exchange.client  # an address, or nothing
    trace = None if exchange.trace is None else exchange.trace.fields()
    return ForwardedIdentity(exchange.request_id, client, exchange.flowise_key, trace)


def upstream_request(exchange: Exchange, upstream: Upstream, body: UpstreamBody) -> UpstreamRequest:
    match, route = exchange.matched
    fields = upstream.fields(identity_of(exchange), exchange.request.raw_headers, body.content_type)
    target = upstream_target(match, route.chatflow, exchange.chat_id)
    exchange.timings.upstream_written = monotonic()
    return UpstreamRequest(exchange.request.method, target, fields, body.content)


def deadlines_of(upstream: Upstream, *, total_only: bool = False) -> Deadlines:
    """`total_only`: the head comes together with the whole reply."""
    timeouts = upstream.timeouts
    return Deadlines(
        send=timeouts.send,
        head=math.inf if total_only else timeouts.head,
        first_event=math.inf if total_only else timeouts.first_event,
        idle=math.inf if total_only else timeouts.idle,
        total=timeouts.total,
        started_at=monotonic(),
    )


_EVENTS = b"text/event-stream"
_PAGES = (b"text/html", b"text/xml", b"application/xml")


def check_head(head: ResponseHead, *, may_be_unmodified: bool = False, may_be_html: bool = False) -> None:
    """Refuse what Flowise's API does not send.

    Raises:
        UpstreamBadReply: the refusal of a proxy; a redirect; a web page, because Flowise answers unknown paths with
            its user interface; several media types; or a compressed body.
    """
    if head.status == PROXY_REFUSES:
        raise refusal_of_proxy()
    if 300 <= head.status < 400 and not (may_be_unmodified and head.status == 304):
        raise UpstreamBadReply(f"Flowise answered with a redirect ({head.status}). Check the upstream's URL.")
    types, is_coded = [], False
    for name, value in head.fields:
        if name == b"content-type":
            types.append(value)
        elif name == b"content-encoding":
            is_coded = head.framing is not Framing.NONE
    if is_coded:
        check_coding(head.fields)
    if len(types) > 1:  # what is decided by one of them would reach the client as another
        raise UpstreamBadReply("Flowise answered with several Content-Type fields. A response has one.")
    if head.status < 300 and types and _is_page(types[0]) and not may_be_html:
        raise UpstreamBadReply("Flowise answered with a web page. Check the upstream's URL.")


def _is_page(content_type: bytes) -> bool:
    """Whether a browser shows it as a document, whose scripts run: HTML, and everything in XML, SVG included.

    Of a list, a browser takes the last type that it knows.
    """
    if content_type == _EVENTS:  # that of most
        return False
    for given in content_type.split(b","):
        media_type = given.partition(b";")[0].strip().lower()
        if media_type in _PAGES or media_type.endswith(b"+xml"):
            return True
    return False
