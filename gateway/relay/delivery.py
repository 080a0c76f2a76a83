"""Sends Flowise's head to the client, and gives the body an outlet until it is delivered: the point of no return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from time import monotonic

from aiohttp import hdrs, web

from gateway.exchange import Exchange
from gateway.relay.call import Call
from gateway.relay.client import ClientStream
from gateway.relay.writers import RawWriter, ResponseWriter
from gateway.upstream.headers import downward
from gateway.upstream.response_parser import Framing, ResponseHead


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a reply is delivered: what is added to its head, what its body goes through, what holds meanwhile."""

    headers: Mapping[str, str]
    send_timeout: float
    outlet: Callable[[ClientStream], ResponseWriter] = RawWriter
    meanwhile: AbstractContextManager[object] = field(default_factory=nullcontext)


async def deliver(
    exchange: Exchange, call: Call, head: ResponseHead, delivery: Delivery
) -> web.StreamResponse:
    """Answer the client with Flowise's reply.

    Raises:
        ConnectionError: the client left before the head.
    """
    exchange.status = head.status
    response = _response(exchange, head, delivery)
    head.fields.clear()
    exchange.response_headers = {}  # both are written; a stream may be open for long
    if head.framing is Framing.NONE:
        call.finish()
        exchange.timings.client_head = monotonic()
        return response
    client = ClientStream(exchange.request, call, delivery.send_timeout)
    try:
        await client.open(response)
    except ConnectionError:
        exchange.status = 0
        raise
    exchange.timings.client_head = monotonic()
    call.attach(delivery.outlet(client))
    try:
        with delivery.meanwhile:
            await call.delivered.wait()
    finally:
        exchange.bytes_out, exchange.bytes_in = client.bytes_out, call.bytes_in
        client.release()
    return response


def _response(exchange: Exchange, head: ResponseHead, delivery: Delivery) -> web.StreamResponse:
    headers = {**dict(downward(head.fields)), **delivery.headers, **exchange.response_headers}
    length = head.get(b"content-length")
    if head.framing is Framing.NONE:  # 204, 304, HEAD: by aiohttp alone, the relay would send a body
        if exchange.request.method == hdrs.METH_HEAD and length.isdigit():
            headers[hdrs.CONTENT_LENGTH] = length.decode()
        return web.Response(status=head.status, headers=headers)
    response = web.StreamResponse(status=head.status, headers=headers)
    if head.framing is Framing.LENGTH and not exchange.is_streaming:  # a stream may get longer or shorter
        response.content_length = int(length)
    return response
