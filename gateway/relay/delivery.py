"""Sends Flowise's head to the client and then its body: the point of no return, where the status is out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic

from aiohttp import hdrs
from msgspec import field

from gateway import web
from gateway.exchange import Exchange
from gateway.records import DiscreetRecord
from gateway.relay.call import UpstreamCall
from gateway.relay.client import ClientStream
from gateway.relay.interfaces import ResponseWriter
from gateway.relay.response import RelayedResponse
from gateway.relay.writers import RawWriter
from gateway.telemetry.values import Cell
from gateway.upstream.headers import downward
from gateway.upstream.response_parser import Framing, ResponseHead


class Delivery(DiscreetRecord, frozen=True):
    """How a reply is delivered.

    Attributes:
        headers: replace Flowise's.
        send_timeout: seconds without progress after which the client is dropped.
        writer: makes the writer of the body.
        defaults: header fields where Flowise has sent none.
        open_bodies: 1 is added to it while the body is sent.
    """

    headers: Mapping[str, str]
    send_timeout: float
    writer: Callable[[ClientStream], ResponseWriter] = RawWriter
    open_bodies: Cell = field(default_factory=lambda: [0.0])
    defaults: Sequence[tuple[str, str]] = ()


async def deliver(
    exchange: Exchange, call: UpstreamCall, head: ResponseHead, delivery: Delivery
) -> web.StreamResponse:
    """Answer the client with Flowise's reply.

    Raises:
        ConnectionError: the client left before the head.
    """
    if head.framing is Framing.NONE:
        call.skip_body()
        exchange.status, exchange.timings.client_head = head.status, monotonic()
        return _without_body(exchange, head, delivery)
    # an open stream holds what is in these names, so that they are few
    client = ClientStream(exchange.request, call, delivery.send_timeout)
    try:
        response = _begin(exchange, call, head, delivery, client)
        delivery.open_bodies[0] += 1
        try:
            if not call.delivered.is_set:
                await call.delivered.waiter()
        finally:
            delivery.open_bodies[0] -= 1
    finally:
        exchange.bytes_out = client.bytes_out
        client.release()
    return response


def _begin(
    exchange: Exchange, call: UpstreamCall, head: ResponseHead, delivery: Delivery, client: ClientStream
) -> RelayedResponse:
    """Send the head, together with what has come of the body.

    Raises:
        ConnectionError: the client is gone already.
    """
    headers = _headers(exchange, head, delivery.headers, delivery.defaults)
    # filters and errors change a stream's length
    has_length = head.framing is Framing.LENGTH and not exchange.is_streaming
    length = int(head.get(b"content-length")) if has_length else None
    response = RelayedResponse(exchange.request, head.status, headers, length)
    writer = delivery.writer(client)
    client.open(response)
    try:
        call.attach(writer)
        client.begin()
    finally:
        if client.has_begun:
            exchange.status, exchange.timings.client_head = head.status, monotonic()
    if not client.has_begun:
        raise ConnectionResetError("the client left before the head")
    head.fields.clear()
    exchange.response_headers = {}
    return response


def whole_response(
    exchange: Exchange, head: ResponseHead, content: bytes, release: Callable[[], None]
) -> web.StreamResponse:
    """The response with Flowise's head and this content in place of its body, which has been read.

    `release`: called when the client has taken it, or has left.
    """
    headers = _headers(exchange, head, {hdrs.CONTENT_LENGTH: str(len(content))})
    exchange.status, exchange.bytes_out = head.status, len(content)
    exchange.timings.client_head = monotonic()
    return _WholeResponse(head.status, headers, content, release)


class _WholeResponse(web.Response):
    def __init__(
        self, status: int, headers: dict[str, str], body: bytes, release: Callable[[], None]
    ) -> None:
        super().__init__(status=status, headers=headers, body=body)
        self._release = release

    async def write_eof(self, data: bytes = b"") -> None:
        try:
            await super().write_eof(data)
        finally:
            self._release()


def _headers(
    exchange: Exchange, head: ResponseHead, own: Mapping[str, str], defaults: Sequence[tuple[str, str]] = ()
) -> dict[str, str]:
    """Flowise's fields that may pass, and `defaults` where it has none; replaced by `own` and those of the policies."""
    passed = dict(downward(head.fields))
    for name, value in defaults:
        if not passed.get(name):
            passed[name] = value
    return {**passed, **own, **exchange.response_headers}


def _without_body(exchange: Exchange, head: ResponseHead, delivery: Delivery) -> web.StreamResponse:
    """204, 304 and HEAD: left to aiohttp, because a `ClientStream` would write a body."""
    headers = _headers(exchange, head, delivery.headers, delivery.defaults)
    length = head.get(b"content-length")
    if exchange.request.method == hdrs.METH_HEAD and length.isdigit():
        headers[hdrs.CONTENT_LENGTH] = length.decode()
    return web.Response(status=head.status, headers=headers)
