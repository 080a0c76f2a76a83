"""What llhttp reads, kept until the read is over: heads, pieces of a body, the end; no socket here.

Faults are noted and tested after each read, because an exception in a callback breaks the parser.
httptools' own limits are none, so size and number of head fields are bounded here.
"""

from __future__ import annotations

import enum
import sys
from dataclasses import dataclass, field

import httptools


class BodyEnd(enum.Enum):
    """How the framing of a response body (RFC 9112, 6.3) was closed."""

    WHOLE = enum.auto()  # the framing says that all of it came
    CLOSED = enum.auto()  # delimited by the close of the connection: whole as far as anyone can know
    CUT = enum.auto()  # broken off


MAX_HEAD = 64 * 1024
MAX_FIELDS = 128
_NO_BODY = frozenset({204, 304})
_FIRST_FINAL = 200


class Framing(enum.Enum):
    """How the end of a body is told (RFC 9112, 6.3)."""

    CHUNKED = enum.auto()
    LENGTH = enum.auto()
    NONE = enum.auto()
    CLOSE = enum.auto()


@dataclass(slots=True)
class ResponseHead:
    """Status and header fields of a final response, names in lower case, values as they came, stripped.

    `fields` may be emptied by whoever has used them: a head is kept as long as its body takes.
    """

    status: int
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    framing: Framing = Framing.CLOSE

    def get(self, name: bytes) -> bytes:
        """The first value of a field, empty if it is missing."""
        return next((value for known, value in self.fields if known == name), b"")


class ResponseParser:
    """One connection's responses, one after the other.

    After each `feed`: `head` is set once the final head is complete, `body` holds the pieces of this read,
    `is_complete` tells that the message ended, `fault` what is wrong with it, `is_over` either of the two.
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
        self.on_body = self.body.append  # llhttp: a piece of the body; straight into the list, once per event
        self._llhttp = httptools.HttpResponseParser(self)
        self._feed = self._llhttp.feed_data
        self.expect("GET")

    def expect(self, method: str) -> None:
        """Get ready for the response to a request with this method."""
        self._is_head_request = method == "HEAD"
        self._fields: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._without_body = 0
        self._whole = sys.maxsize  # pieces of this read that belong to the response
        self.head: ResponseHead | None = None
        self.body.clear()
        self.is_complete = False
        self.is_over = False
        self.may_stay_open = False
        self.has_surplus = False
        self.fault = ""

    def feed(self, data: bytes) -> None:
        """Read what came; never raises."""
        body = self.body
        body.clear()
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade:
            self._note("it switched protocols, which nobody asked for")
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

    def on_message_begin(self) -> None:
        """Llhttp: the first byte of a response."""
        if self.is_complete:
            self.has_surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Llhttp: one field of the head, or a trailer (ignored)."""
        if self.head is not None:
            return
        self._head_size += len(name) + len(value) + 4
        if self._head_size > MAX_HEAD or len(self._fields) >= MAX_FIELDS:
            self._note(f"a head of more than {MAX_HEAD} bytes or {MAX_FIELDS} fields")
            return
        name = name.lower()
        if name == b"transfer-encoding" and value.rstrip() != value.rstrip(b" "):
            self._note("a transfer coding other than chunked")  # a tab behind it hides `chunked` from llhttp
        self._fields.append((name, value.strip()))

    def on_headers_complete(self) -> None:
        """Llhttp: the blank line after the head."""
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
        """Llhttp: the end. Only here does `should_keep_alive` tell the truth."""
        if self.head is None:
            return
        if not self.is_complete:
            self._complete()
            self.may_stay_open = self._llhttp.should_keep_alive()

    def _frame(self, head: ResponseHead) -> None:
        if self._llhttp.get_http_version() not in ("1.1", "1.0"):
            self._note("not HTTP/1.x")
        coding = b", ".join(value for name, value in head.fields if name == b"transfer-encoding").lower()
        if head.status in _NO_BODY or self._is_head_request:
            head.framing = Framing.NONE
        elif coding == b"chunked":
            head.framing = Framing.CHUNKED
        elif coding:
            self._note("a transfer coding other than chunked")
        elif head.get(b"content-length"):
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
