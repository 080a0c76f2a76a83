"""Parses the responses of one connection with llhttp (pure).

Three traps of httptools shape it. An exception in a callback leaves the parser broken, so faults are noted and tested
after each read. It has no size limits, so heads, trailers and chunk extensions are bounded here.
`should_keep_alive()` is right only inside `on_message_complete`.
"""

from __future__ import annotations

import enum
import sys
from typing import Any, cast

import httptools
import msgspec

MAX_HEAD = 64 * 1024  # bytes of a head, and of anything else between two pieces of a body
MAX_FIELDS = 128
_NO_BODY = frozenset({204, 304})
_FIRST_FINAL = 200


class BodyEnd(enum.Enum):
    """How a response body ended."""

    WHOLE = enum.auto()  # complete by its framing
    CLOSED = enum.auto()  # delimited by the close of the connection, so complete as far as can be known
    CUT = enum.auto()  # broken off


class Framing(enum.Enum):
    """How a response body is delimited (RFC 9112, 6.3)."""

    CHUNKED = enum.auto()
    LENGTH = enum.auto()
    NONE = enum.auto()
    CLOSE = enum.auto()


class ResponseHead(msgspec.Struct):
    """Status and header fields of a final response: names in lower case, values stripped.

    `fields` may be cleared after use: a head is kept for as long as its body takes.
    """

    status: int
    fields: list[tuple[bytes, bytes]] = msgspec.field(default_factory=list)
    framing: Framing = Framing.CLOSE

    def get(self, name: bytes) -> bytes:
        """The first value of a field; empty if it is missing."""
        for known, value in self.fields:
            if known == name:
                return value
        return b""


class ResponseParser:
    """The state after each `feed`.

    Attributes:
        head: the final head, once it is complete.
        body: the pieces of this read.
        is_complete: the message has ended.
        fault: what is wrong with the message; empty if nothing is.
        is_over: complete or at fault.
        has_surplus: bytes followed the message; the connection must be closed.
    """

    __slots__ = (
        "_feed",
        "_fields",
        "_head_size",
        "_is_head_request",
        "_llhttp",
        "_whole",
        "_without_body",
        "body",
        "fault",
        "has_surplus",
        "head",
        "is_complete",
        "is_over",
        "may_stay_open",
        "on_body",
    )

    def __init__(self) -> None:
        self.body: list[bytes] = []
        self.on_body = self.body.append  # llhttp's callback; a bound method of the list costs least per event
        self._llhttp = httptools.HttpResponseParser(self)
        self._feed = self._llhttp.feed_data
        self.expect("GET")

    def expect(self, method: str) -> None:
        """Reset for the response to a request with this method."""
        self._is_head_request = method == "HEAD"
        self._fields: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._without_body = 0
        self._whole = sys.maxsize  # the number of pieces of this read that belong to the response
        self.head: ResponseHead | None = None
        self.body.clear()
        self.is_complete = False
        self.is_over = False
        self.may_stay_open = False
        self.has_surplus = False
        self.fault = ""

    def feed(self, data: bytes) -> None:
        """Parse the bytes of one read. Never raises: see `fault`."""
        body = self.body
        body.clear()
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade:
            self._note("it switched protocols without being asked")
        except httptools.HttpParserError as error:
            self._parse_error(error)
        if len(body) > self._whole:
            self.has_surplus = True
            del body[self._whole :]
        if body:
            self._without_body = 0
            return
        self._without_body += len(data)
        if self._without_body > MAX_HEAD and not self.is_complete:
            self._note(f"more than {MAX_HEAD} bytes of head, trailers or chunk extensions")

    def close(self) -> None:
        """Let go of llhttp, which holds this parser: the connection has ended, and cycles wait for the collector."""
        self._llhttp = self._feed = cast(Any, None)

    def on_message_begin(self) -> None:
        if self.is_complete:
            self.has_surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or a trailer, which is ignored."""
        if self.head is not None:
            return
        self._head_size += len(name) + len(value) + 4
        if self._head_size > MAX_HEAD or len(self._fields) >= MAX_FIELDS:
            self._note(f"a head of more than {MAX_HEAD} bytes or {MAX_FIELDS} fields")
            return
        name = name.lower()
        if name == b"transfer-encoding" and value.rstrip() != value.rstrip(b" "):
            self._note(
                "a transfer coding other than chunked"
            )  # llhttp does not recognise `chunked` before a tab
        self._fields.append((name, value.strip()))

    def on_headers_complete(self) -> None:
        if self.is_complete:
            self.has_surplus = True
            return
        status = self._llhttp.get_status_code()
        if status < _FIRST_FINAL:
            self._fields = []
            return
        self.head = ResponseHead(status, self._fields)
        self._frame(self.head)
        if self._is_head_request:
            self._complete()

    def on_message_complete(self) -> None:
        """Also called for a 1xx, which has no head here."""
        if self.head is None:
            return
        if not self.is_complete:
            self._complete()
            self.may_stay_open = self._llhttp.should_keep_alive()

    def _frame(self, head: ResponseHead) -> None:
        if self._llhttp.get_http_version() not in ("1.1", "1.0"):
            self._note("not HTTP/1.x")
        codings, has_length = [], False
        for name, value in head.fields:
            if name == b"transfer-encoding":
                codings.append(value)
            elif name == b"content-length":
                has_length = True
        coding = b", ".join(codings).lower()
        if head.status in _NO_BODY or self._is_head_request:
            head.framing = Framing.NONE
        elif coding == b"chunked":
            head.framing = Framing.CHUNKED
        elif coding:
            self._note("a transfer coding other than chunked")
        elif has_length:
            head.framing = Framing.LENGTH

    def _parse_error(self, error: httptools.HttpParserError) -> None:
        if self.is_complete:
            self.has_surplus = True
        else:
            self._note(f"not valid HTTP ({error})")

    def _complete(self) -> None:
        self.is_complete = self.is_over = True
        self._whole = len(self.body)

    def _note(self, fault: str) -> None:
        self.fault = self.fault or fault
        self.is_over = True
