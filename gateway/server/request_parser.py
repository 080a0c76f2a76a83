"""aiohttp's request parser with bounds for request line, field and whole head, and `chunked` as the only coding.

A head above a bound becomes a request of its own, with what could be read of it, so that the pipeline refuses it like
any other: in the right form, with CORS headers, logged and counted. It is the last request of its connection. What the
client still sends is read and discarded for a moment, because closing on unread bytes could lose the response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from aiohttp import HttpVersion, HttpVersion10, HttpVersion11, StreamReader, hdrs
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway import web
from gateway.errors import BadRequest, GatewayError, HeaderTooLarge, TargetTooLong
from gateway.http.refused_head import END, read_refused_head
from gateway.http.syntax_errors import OTHER_CODING
from gateway.http.target import BASE

HEADS = 4  # a whole head may be as long as this many of the longest fields
MAX_FIELDS = 128
READ_BUFFER = 64 * 1024  # bytes of a body, before its reader takes them
_SEPARATOR = len(": ")
_TOO_MANY = "Too many headers received"  # by aiohttp, which has no type for it
# Those that decide the form of the response, and what is logged.
_WANTED = frozenset({"origin", "accept", "x-request-id", "traceparent", "x-forwarded-for", "forwarded"})

_Messages = Sequence[tuple[RawRequestMessage, StreamReader]]
Parsed = tuple[_Messages, bool, bytes]
_NOTHING: Parsed = ((), False, b"")


def parser_options(max_header: int) -> dict[str, int]:
    """The limits of aiohttp's own parser, which bound the memory of a line that has not ended.

    The two differ, so that its error says which one was exceeded. Of most fields it counts the value only.
    """
    return {"max_line_size": max_header, "max_field_size": max_header - _SEPARATOR, "max_headers": MAX_FIELDS}


class RequestParser:
    """In place of the `parser` of a connection.

    Attributes:
        refusal: why the head was refused, as soon as one was.
        refused_body: of the request that is refused.
    """

    def __init__(self, parser: Any, protocol: web.RequestHandler, max_header: int) -> None:
        self._parser = parser
        self._protocol = protocol
        self._max_header = max_header
        self._max_head = HEADS * max_header
        self._head = bytearray()  # of the request whose head is not complete
        self._last_read = 0  # bytes of the read that completed a head, and may hold the start of the next one
        self._body: StreamReader | None = None  # of the last request with a complete head
        self.refusal: GatewayError | None = None
        self.refused_body: StreamReader | None = None

    def feed_data(self, data: bytes) -> Parsed:
        """Parse; the result is aiohttp's: the requests whose head is complete, whether it upgrades, and what is left.

        Raises:
            BadHttpMessage: this is no HTTP/1.1.
        """
        if self.refused_body is not None:
            self.refused_body.feed_data(data)
            return _NOTHING
        if self.refusal is not None:
            return self._read_on(data, self.refusal)
        is_head = not self._is_in_body
        try:
            parsed: Parsed = self._parser.feed_data(data)
        except BadHttpMessage as error:
            self.refusal = None if self._is_in_body else self._refusal_of(error)
            if self.refusal is None:
                raise
            return self._read_on(data, self.refusal)
        if parsed[0]:
            return self._bounded(parsed, data)
        if is_head:
            self._head += data
            if len(self._head) > self._max_head:
                return self._refuse(self._whole_head_too_large(), self._read_head(), ())
        return parsed

    def _bounded(self, parsed: Parsed, data: bytes) -> Parsed:
        """Refuse the first head that is too large or has another coding than `chunked`, with all that follows it."""
        messages = parsed[0]
        may_be_large = len(self._head) + self._last_read + len(data) > self._max_header
        for at, (message, _) in enumerate(messages):
            refusal = self._too_large(message) if may_be_large else None
            if refusal is None and hdrs.TRANSFER_ENCODING in message.headers:
                refusal = _coding_refused(message)
            if refusal is not None:
                return self._refuse(refusal, _readable(message), messages[:at])
        self._head.clear()
        self._body = messages[-1][1]
        self._last_read = len(data)
        return parsed

    @property
    def _is_in_body(self) -> bool:
        return self._body is not None and not self._body.is_eof()

    def _refusal_of(self, error: BadHttpMessage) -> GatewayError | None:
        """None if it is not for its size."""
        if isinstance(error, LineTooLong):
            return self._target_too_long() if error.args[1] == self._max_header else self._field_too_large()
        if error.message == _TOO_MANY:
            return HeaderTooLarge(f"The request has more than {MAX_FIELDS} header fields. Send fewer.")
        return None

    def _too_large(self, message: RawRequestMessage) -> GatewayError | None:
        sizes = [len(name) + len(value) + _SEPARATOR for name, value in message.raw_headers]
        if max(sizes, default=0) > self._max_header:
            return self._field_too_large()
        return self._whole_head_too_large() if sum(sizes) + len(message.path) > self._max_head else None

    def _target_too_long(self) -> GatewayError:
        return TargetTooLong(
            f"The request target is longer than {self._max_header} bytes. Send a shorter one."
        )

    def _field_too_large(self) -> GatewayError:
        return HeaderTooLarge(
            f"A header field is longer than {self._max_header} bytes. Send a shorter one, or fewer cookies."
        )

    def _whole_head_too_large(self) -> GatewayError:
        return HeaderTooLarge(
            f"The header fields are longer than {self._max_head} bytes together. Send fewer or shorter ones."
        )

    def _read_on(self, data: bytes, refusal: GatewayError) -> Parsed:
        """Wait for the end of a refused head: its Origin may be last, and without it no page can read the refusal."""
        seen = max(0, len(self._head) - len(END))
        self._head += data
        if self._head.find(END, seen) < 0 and len(self._head) <= self._max_head:
            return _NOTHING
        return self._refuse(refusal, self._read_head(), ())

    def _read_head(self) -> RawRequestMessage:
        """The request as far as it can be read of a head that aiohttp did not complete."""
        head = read_refused_head(bytes(self._head), _WANTED, self._max_header)
        is_below_token = self._head.partition(b" ")[2].startswith(BASE.encode())
        unknown = BASE if is_below_token else "/"
        version = HttpVersion10 if head.is_http_10 else HttpVersion11
        return _message(head.method, unknown if head.target is None else head.target, version, head.fields)

    def _refuse(self, refusal: GatewayError, message: RawRequestMessage, before: _Messages) -> Parsed:
        """The requests before, and the refused one."""
        self._head.clear()
        self.refusal = refusal
        self.refused_body = StreamReader(self._protocol, READ_BUFFER, loop=asyncio.get_running_loop())
        return [*before, (message, self.refused_body)], False, b""

    def pause_reading(self) -> None:
        if self.refused_body is None:
            self._parser.pause_reading()

    def message_consumed(self) -> None:
        self._parser.message_consumed()

    def close(self) -> None:
        """Let go of the connection, which has ended: it holds this parser, and cycles wait for the collector."""
        self._parser = self._protocol = cast(Any, None)
        self._body = self.refused_body = None

    def set_upgraded(self, is_upgraded: bool) -> None:  # noqa: FBT001 - as aiohttp calls it
        self._parser.set_upgraded(is_upgraded)


def _coding_refused(message: RawRequestMessage) -> GatewayError | None:
    """None for `chunked` alone in HTTP/1.1: RFC 9112 6.1.

    aiohttp takes any list that ends with it, so that what is compressed would be passed on; an empty one for none.
    """
    if message.headers[hdrs.TRANSFER_ENCODING].lower() != "chunked":
        return BadRequest(f"The request's {OTHER_CODING}")
    if message.version < HttpVersion11:
        return BadRequest("HTTP/1.0 has no Transfer-Encoding. Send Content-Length, or use HTTP/1.1.")
    return None


def _readable(message: RawRequestMessage) -> RawRequestMessage:
    """What is needed of a request with a complete head."""
    fields = [(name, value) for name, value in message.headers.items() if name.lower() in _WANTED]
    return _message(message.method, message.path, message.version, fields)


def _message(
    method: str, target: str, version: HttpVersion, fields: Sequence[tuple[str, str]]
) -> RawRequestMessage:
    return RawRequestMessage(
        method=method,
        path=target,
        version=version,
        headers=CIMultiDictProxy(CIMultiDict(fields)),
        raw_headers=(),
        should_close=True,
        compression=None,
        upgrade=False,
        chunked=False,
        url=URL("/"),
    )
