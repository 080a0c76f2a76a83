"""Captures, and a comparison that ignores ids, times and dates."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent.parent / "captures"
HEARTBEAT = b":heartbeat\n\n"

_UUID = rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_IDS = re.compile(
    rb'"(chatId|sessionId|chatMessageId|messageId|executionId|credential|FLOWISE_CREDENTIAL_ID)":"'
    + _UUID
    + b'"'
)
_STORED = re.compile(rb'"id":"' + _UUID + rb'","createdDate":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z"')
_TIMES = re.compile(rb'"timeMetadata":\{"start":\d{13},"end":\d{13},"delta":\d+\}')
_DATE = re.compile(rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
_VOLATILE = {b"X-RateLimit-Reset": re.compile(rb"\d{10}"), b"Retry-After": re.compile(rb"[1-9]\d?")}
_PAGE = (b"ETag", b"Content-Length", b"Last-Modified")


ALL = {path.stem: path.read_bytes() for path in HERE.glob("*.raw")}


def load(name: str) -> bytes:
    return ALL[name]


@dataclass(frozen=True)
class Exchange:
    """The comparable parts of an answer.

    `chunks`: one for each HTTP chunk, or the whole body. `is_whole`: its framing is complete.
    """

    head: tuple[bytes, ...]
    chunks: tuple[bytes, ...]
    is_whole: bool


def comparable(raw: bytes, *, is_page: bool = False) -> Exchange | bytes:
    """Replace what differs each time; an answer without a head stays as it is."""
    head, separator, body = raw.partition(b"\r\n\r\n")
    if not separator:
        return raw
    if head.startswith(b"HTTP/1.1 1"):
        rest = comparable(body)
        return Exchange((head, *rest.head), rest.chunks, rest.is_whole)
    fields = [line.partition(b": ")[::2] for line in head.split(b"\r\n")[1:]]
    chunks, is_whole = _chunks(body, dict(fields))
    neutral = tuple(_neutral(chunk) for chunk in chunks)
    is_same = neutral == chunks
    lines = (_line(name, value, body if not is_same else None, is_page=is_page) for name, value in fields)
    shown = tuple(chunk for chunk in neutral if chunk != HEARTBEAT)
    return Exchange((head.split(b"\r\n")[0], *lines), () if is_page else shown, is_whole)


def _chunks(body: bytes, fields: dict[bytes, bytes]) -> tuple[tuple[bytes, ...], bool]:
    if b"Transfer-Encoding" not in fields:
        size = fields.get(b"Content-Length", b"%d" % len(body))
        return (body,), len(body) in (int(size), 0)
    chunks = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        assert body[length : length + 2] == b"\r\n", "a chunk has a wrong length"
        if length == 0:
            assert body == b"\r\n", "something follows the last chunk"
            return tuple(chunks), True
        chunks.append(body[:length])
        body = body[length + 2 :]
    return tuple(chunks), False


def _neutral(chunk: bytes) -> bytes:
    chunk = _IDS.sub(rb'"\1":"<id>"', chunk)
    chunk = _STORED.sub(b'"id":"<id>","createdDate":"<time>"', chunk)
    return _TIMES.sub(b'"timeMetadata":"<times>"', chunk)


def _line(name: bytes, value: bytes, changed_body: bytes | None, *, is_page: bool) -> bytes:
    """One header; `changed_body` is the body if ids or times were replaced in it."""
    if name == b"Date":
        assert _DATE.fullmatch(value)
        return b"Date"
    if name in _VOLATILE:
        assert _VOLATILE[name].fullmatch(value), (name, value)
        return name
    if is_page and name in _PAGE:
        return name
    if changed_body is not None and name == b"ETag":
        assert value == _tag(changed_body), "not Express's tag of this body"
        return name
    if changed_body is not None and name == b"Content-Length" and _TIMES.search(changed_body):
        return name
    return name + b": " + value


def _tag(body: bytes) -> bytes:
    digest = base64.b64encode(hashlib.sha1(body, usedforsecurity=False).digest())
    return b'W/"%x-%b"' % (len(body), digest[:27])
