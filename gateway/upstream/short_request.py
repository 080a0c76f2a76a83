"""Sends one of the gateway's own short requests and collects its whole reply."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from gateway.errors import GatewayError, UpstreamBadReply, UpstreamTimeout
from gateway.upstream.connection import Connection, StaleConnectionError
from gateway.upstream.headers import UpstreamRequest, check_coding
from gateway.upstream.pool import Pool
from gateway.upstream.response_parser import BodyEnd, ResponseHead


class ShortReply(NamedTuple):
    """A whole reply; `etag` as in its header field, empty if it has none."""

    status: int
    body: bytes
    etag: bytes


async def send_short(pool: Pool, request: UpstreamRequest, seconds: float, limit: int) -> ShortReply:
    """The reply; a redirect is not followed. `limit`: bytes of the body.

    A GET is sent once more if a reused connection closed before one byte came back.

    Raises:
        UpstreamUnreachable: no connection, or it closed before the head.
        UpstreamTimeout: no complete reply within `seconds`.
        UpstreamBadReply: the reply is not valid, is compressed, or larger than `limit`.
        Overloaded: no connection was free.
    """
    try:
        async with asyncio.timeout(seconds):
            try:
                return await _exchange(await pool.acquire(), request, limit)
            except StaleConnectionError:
                return await _exchange(await pool.acquire(fresh=True), request, limit)
    except TimeoutError:
        raise UpstreamTimeout(f"Flowise did not answer within {seconds:g} s.") from None


async def _exchange(connection: Connection, request: UpstreamRequest, limit: int) -> ShortReply:
    reply = _WholeReply(limit)
    connection.start(request.method, request.encoded(), reply)
    connection.finish_request()
    try:
        return await reply.result
    finally:
        if not reply.is_over:  # late, cancelled or too large
            connection.close()


class _WholeReply:
    """The sink of the connection. `is_over`: the connection has reported the end."""

    def __init__(self, limit: int) -> None:
        self.result: asyncio.Future[ShortReply] = asyncio.get_running_loop().create_future()
        self.is_over = False
        self._limit = limit
        self._status, self._etag = 0, b""
        self._body = bytearray()

    def on_head(self, head: ResponseHead) -> None:
        self._status, self._etag = head.status, head.get(b"etag")
        try:
            check_coding(head.fields)
        except UpstreamBadReply as error:
            self._fail(error)

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._limit:
            self._fail(UpstreamBadReply(f"Flowise sent more than {self._limit} bytes to a short request."))

    def on_end(self, end: BodyEnd) -> None:
        self.is_over = True
        if end is BodyEnd.CUT:
            self._fail(UpstreamBadReply("Flowise broke off its reply."))
        elif not self.result.done():
            self.result.set_result(ShortReply(self._status, bytes(self._body), self._etag))

    def on_failure(self, error: GatewayError | StaleConnectionError) -> None:
        self.is_over = True
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)
