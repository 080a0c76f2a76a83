"""The response to a client whose body is relayed: its head is one piece of bytes, `ClientStream` writes its body.

aiohttp asks three things of what a handler returns: to be prepared, to write its end, and whether the connection may be
kept. Its own class puts the header fields into a multidict and awaits five coroutines to write them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time

from aiohttp import HttpVersion11, hdrs
from aiohttp.abc import AbstractStreamWriter

from gateway import web

LAST_CHUNK = b"0\r\n\r\n"
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # all but the tab


class RelayedResponse(web.StreamResponse):
    """A response with a body.

    Attributes:
        head: its head, as it is sent; empty once it is.
        is_chunked: its body is framed in chunks; otherwise by its length or the end of the connection.
        is_finished: the last chunk was sent.
    """

    def __init__(
        self, request: web.BaseRequest, status: int, headers: Mapping[str, str], length: int | None
    ) -> None:
        """`length`: of the body in bytes; None: unknown.

        Raises:
            ValueError: a header field holds a control character.
        """
        # without aiohttp's own, which makes a multidict and other things that nobody asks for
        self._sent_status = status
        self._request = request
        is_http_11 = request.version >= HttpVersion11
        # over HTTP/1.0 a body without length ends with the connection
        self._may_stay_open = is_http_11 and request.keep_alive
        self.is_chunked = is_http_11 and length is None
        self.is_finished = False
        fields = {**headers, **_added(headers, length, is_chunked=self.is_chunked)}
        if is_http_11 and not self._may_stay_open:
            fields[hdrs.CONNECTION] = "close"
        self.head = _encoded(f"HTTP/1.{request.version.minor} {status} {_REASONS.get(status, '')}", fields)

    @property
    def status(self) -> int:
        return self._sent_status

    @property
    def keep_alive(self) -> bool:
        return self._may_stay_open

    def force_close(self) -> None:
        self._may_stay_open = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Do nothing: `ClientStream` sends the head."""

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 - there is never any
        """Send the last chunk, unless it went with the body, and wait until the client has taken enough of it.

        Raises:
            ConnectionError: the client has left, or the response was cut.
        """
        if self.is_chunked and not self.is_finished:
            transport = self._request.transport
            if transport is None or transport.is_closing():
                raise ConnectionResetError("the response was not completed")
            transport.write(LAST_CHUNK)
        await self._request.writer.drain()


def _added(headers: Mapping[str, str], length: int | None, *, is_chunked: bool) -> dict[str, str]:
    """The fields that every response needs and these do not have."""
    added: dict[str, str] = {}
    if length is not None:
        added[hdrs.CONTENT_LENGTH] = str(length)
    elif is_chunked:
        added[hdrs.TRANSFER_ENCODING] = "chunked"
    if hdrs.CONTENT_TYPE not in headers and length != 0:
        added[hdrs.CONTENT_TYPE] = "application/octet-stream"
    if hdrs.DATE not in headers:
        added[hdrs.DATE] = _date(int(time()))
    return added


@lru_cache(1)
def _date(now: int) -> str:
    """The value of the field `Date`; `now`: seconds since the epoch."""
    return formatdate(now, usegmt=True)


def _encoded(status_line: str, fields: Mapping[str, str]) -> bytes:
    """Encode a head.

    Raises:
        ValueError: a value holds a control character, which could end the head or begin another field.
    """
    lines = [status_line, *[f"{name}: {value}" for name, value in fields.items()]]
    # what is printable needs no regex, which takes ten times as long
    if not "".join(lines).isprintable() and any(map(_CONTROL.search, lines)):
        raise ValueError("a header field of the response holds a control character")
    return "\r\n".join([*lines, "\r\n"]).encode()
