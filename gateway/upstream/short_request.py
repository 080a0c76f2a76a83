"""Sends one of the gateway's own short requests and collects its whole reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from gateway.errors import GatewayError, UpstreamBadReply, UpstreamTimeout, UpstreamUnreachable
from gateway.upstream.choice import NO_HEAD, Connector
from gateway.upstream.connection import Connection, UnansweredError
from gateway.upstream.headers import PROXY_REFUSES, UpstreamRequest, check_coding, refusal_of_proxy
from gateway.upstream.response_parser import BodyEnd, ResponseHead


class ShortReply(NamedTuple):
    """A whole reply; `etag` as in its header field, empty if it has none."""

    status: int
    body: bytes
    etag: bytes


CLOSED_EARLY = "Flowise closed the connection before it answered."


async def send_short(
    connector: Connector, request: UpstreamRequest, seconds: float, limit: int
) -> ShortReply:
    """The reply; a redirect is not followed. `limit`: bytes of the body.

    A GET may be sent once more if its connection closed before one byte came back.

    Raises:
        UpstreamUnreachable: no connection, or it closed before the head.
        UpstreamTimeout: no complete reply within `seconds`.
        UpstreamBadReply: the reply is not valid, is compressed, or larger than `limit`.
        Overloaded: no connection was free.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _sent(connector, request, limit)
    except TimeoutError:
        connector.lost(NO_HEAD)
        raise UpstreamTimeout(f"Flowise did not answer within {seconds:g} s.") from None
    except UpstreamUnreachable as error:
        connector.lost(error.cause)
        raise
    finally:
        connector.gave_up()


async def _sent(connector: Connector, request: UpstreamRequest, limit: int) -> ShortReply:
    """The reply to the request, which is sent once more where that is harmless."""
    try:
        return await _exchange(connector, request, limit)
    except UnansweredError as error:
        unanswered = error
    if connector.may_repeat(unanswered):
        try:
            return await _exchange(connector, request, limit, fresh=True)
        except UnansweredError as error:
            unanswered = error
    raise UpstreamUnreachable(CLOSED_EARLY, unanswered.cause)


async def _exchange(
    connector: Connector, request: UpstreamRequest, limit: int, *, fresh: bool = False
) -> ShortReply:
    connection: Connection = await connector.connect(fresh=fresh)
    reply = _WholeReply(limit, connector.answered)
    connection.start(request.method, request.encoded(connector.server.addressed), reply)
    connection.finish_request()
    try:
        return await reply.result
    finally:
        if not reply.is_over:  # late, cancelled or too large
            connection.close()


class _WholeReply:
    """The sink of the connection. `is_over`: the connection has reported the end."""

    def __init__(self, limit: int, answered: Callable[[int], None]) -> None:
        self.result: asyncio.Future[ShortReply] = asyncio.get_running_loop().create_future()
        self.is_over = False
        self._limit = limit
        self._answered = answered
        self._status, self._etag = 0, b""
        self._body = bytearray()

    def on_head(self, head: ResponseHead) -> None:
        self._status, self._etag = head.status, head.get(b"etag")
        self._answered(head.status)
        try:
            if head.status == PROXY_REFUSES:
                raise refusal_of_proxy()
            check_coding(head.fields)
        except UpstreamBadReply as error:
            self._fail(error)

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._limit:
            self._fail(UpstreamBadReply(f"Flowise sent more than {self._limit} bytes to a short request."))

    def on_end(self, end: BodyEnd, last: bytes = b"") -> None:
        self.is_over = True
        if last:
            self.on_body(last)
        if end is BodyEnd.CUT:
            self._fail(UpstreamBadReply("Flowise broke off its reply."))
        elif not self.result.done():
            self.result.set_result(ShortReply(self._status, bytes(self._body), self._etag))

    def on_failure(self, error: GatewayError | UnansweredError) -> None:
        self.is_over = True
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)
