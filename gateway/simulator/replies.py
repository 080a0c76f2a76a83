"""Responses with the heads that Express writes: same headers, same order, same weak ETag."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from aiohttp import web

from gateway.simulator.steps import stringify

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"
VARY = ("Vary", "Origin")
FRAMING = (("Content-Security-Policy", "frame-ancestors 'self'"), ("X-Frame-Options", "SAMEORIGIN"))

_BUILT_AT = 1795231283
_PAGE = b"""<!DOCTYPE html>
<html lang="en">
    <head>
        <title>Flowise - Build AI Agents, Visually</title>
    </head>
    <body>
        <div id="root"></div>
    </body>
</html>
"""

Headers = Iterable[tuple[str, str]]


class FlowiseError(Exception):
    """An error that Flowise's error handler answers with JSON, or never if a stream was requested.

    Attributes:
        is_early: raised before the CORS and framing headers were set.
    """

    def __init__(self, status: int, message: str, *, reason: str = "", is_early: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason or HTTPStatus(status).phrase
        self.message = message
        self.is_early = is_early

    def shape(self) -> dict[str, Any]:
        """The JSON body of Flowise's error handler."""
        return {"statusCode": self.status, "success": False, "message": self.message, "stack": {}}


class Reply(web.Response):
    """A response with exactly this head, in this order."""

    def __init__(self, status: int, body: bytes, head: Headers) -> None:
        super().__init__(status=status, body=body)
        self.head = tuple(head)


class UnsizedReply(web.StreamResponse):
    """A response without a length; aiohttp adds the framing to its head."""

    def __init__(self, head: Headers) -> None:
        super().__init__()
        self.head = tuple(head)


@dataclass
class Responder:
    """Builds the response of one request.

    Attributes:
        keep_alive: what `Keep-Alive: timeout=` announces, seconds.
        base: headers before those of the body: CORS, framing, rate limit.
    """

    request: web.Request
    keep_alive: float
    base: list[tuple[str, str]] = field(default_factory=list)

    def json(self, value: Any, status: int = 200) -> Reply:
        """Answer as `res.json` does."""
        return self.send(JSON, stringify(value), status)

    def send(self, kind: str, body: bytes, status: int = 200) -> Reply:
        """Answer as `res.send` does: 304 if the client has it (chatflows-streaming-fresh)."""
        tag = ("ETag", entity_tag(body))
        if status == HTTPStatus.OK and self.request.headers.get("If-None-Match") == tag[1]:
            return Reply(304, b"", [*self.base, tag, *self.closing()])
        about = [("Content-Type", kind), ("Content-Length", str(len(body))), tag]
        return Reply(status, body, [*self.base, *about, *self.closing()])

    async def pour(self, body: bytes) -> web.StreamResponse:
        """Answer as a piped file does: chunked, and without a content type (capture get-upload-file)."""
        stream = UnsizedReply([*self.base, *self.closing()])
        await stream.prepare(self.request)
        await stream.write(body)
        return stream

    def fail(self, error: FlowiseError) -> Reply:
        """Answer as Flowise's error handler does."""
        reply = self.json(error.shape(), error.status)
        reply.set_status(error.status, error.reason)
        return reply

    def page(self) -> Reply:
        """Answer with the user interface's page, as Flowise does for unknown paths."""
        return self.file("text/html; charset=UTF-8", _PAGE)

    def file(self, kind: str, body: bytes) -> Reply:
        """Answer as `res.sendFile` does."""
        about = [
            ("Accept-Ranges", "bytes"),
            ("Cache-Control", "public, max-age=0"),
            ("Last-Modified", formatdate(_BUILT_AT, usegmt=True)),
            ("ETag", f'W/"{len(body):x}-{_BUILT_AT * 1000:x}"'),
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
        ]
        return Reply(200, body, [*self.base, *about, *self.closing()])

    def closing(self) -> Headers:
        """The headers that Node adds last: Date, Connection, Keep-Alive."""
        if not any(name == "Date" for name, _ in self.base):
            yield date()
        if not self.request.keep_alive:
            yield "Connection", "close"
            return
        yield "Connection", "keep-alive"
        yield "Keep-Alive", f"timeout={int(self.keep_alive)}"


def date() -> tuple[str, str]:
    """The `Date` header, now."""
    return "Date", formatdate(usegmt=True)


def entity_tag(body: bytes) -> str:
    """Express's weak ETag: length in hex and 27 characters of the SHA-1 in base64."""
    digest = base64.b64encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()
    return f'W/"{len(body):x}-{digest[:27]}"'


async def finish_head(_request: web.Request, response: web.StreamResponse) -> None:
    """Put the headers into Flowise's order; an `on_response_prepare` signal."""
    encoding = response.headers.popone("Transfer-Encoding", None)
    response.headers.pop("Server", None)
    if isinstance(response, Reply | UnsizedReply):
        response.headers.clear()
        response.headers.extend(response.head)
    if encoding:
        response.headers["Transfer-Encoding"] = encoding
