"""Reads and parses a request's body as Express does, with its error messages."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from aiohttp import StreamReader, web

from gateway.simulator.replies import FlowiseError

_OBJECT = re.compile(r"[ \t\r\n]*[\[{]")
_TAIL = 200
_LITERALS = {"t": "true", "f": "false", "n": "null"}


@dataclass(frozen=True)
class File:
    """One uploaded file of a multipart body."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True)
class RawBody:
    """A body before it is parsed.

    Attributes:
        raw: its bytes; of a multipart body above the limit only the first ones.
        size: length of the whole body, bytes.
        sha256: hex digest of the whole body.
        tail: its last bytes.
    """

    raw: bytes
    size: int
    sha256: str
    tail: bytes


async def read_body(request: web.Request, limit: int) -> RawBody:
    """Read a body of up to `limit` bytes; of a larger multipart one only the start is kept.

    Raises:
        FlowiseError: 413, before CORS (capture too-large).
    """
    is_limited = not request.content_type.startswith("multipart/")
    if is_limited and (request.content_length or 0) > limit:
        _raise_too_large()
    body = await _collect(request.content, limit)
    if is_limited and body.size > limit:
        _raise_too_large()
    return body


async def _collect(content: StreamReader, limit: int) -> RawBody:
    kept, size, digest, tail = bytearray(), 0, hashlib.sha256(), b""
    async for part in content.iter_any():
        kept += part[: max(0, limit - size)]
        size += len(part)
        digest.update(part)
        tail = (tail + part)[-_TAIL:]
    return RawBody(bytes(kept), size, digest.hexdigest(), tail)


def _raise_too_large() -> NoReturn:
    raise FlowiseError(413, "request entity too large", reason="Payload Too Large", is_early=True)


def parse_body(body: RawBody, content_type: str) -> tuple[Any, tuple[File, ...]]:
    """Parse a body; a content type that Express does not parse gives an empty object (capture text-plain).

    Raises:
        FlowiseError: 400 for malformed JSON, before CORS; 500 for a multipart body that breaks off.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        return (_json(body.raw.decode("utf-8", "replace")) if body.raw else {}), ()
    if kind == "application/x-www-form-urlencoded":
        return dict(parse_qsl(body.raw.decode("utf-8", "replace"), keep_blank_values=True)), ()
    if kind == "multipart/form-data":
        return _multipart(body, content_type)
    return {}, ()


def _json(text: str) -> Any:
    if not _OBJECT.match(text):
        _raise_malformed(_unexpected(text.strip(), text))
    try:
        return json.loads(text, parse_constant=lambda name: _raise_malformed(_unexpected(name, text)))
    except json.JSONDecodeError as error:
        _raise_malformed(_v8_message(error))


def _v8_message(error: json.JSONDecodeError) -> str:
    """Node's message, for the captured errors (malformed-json, json-tail, json-bad-token)."""
    if error.msg == "Extra data":
        where = f"position {error.pos} (line {error.lineno} column {error.colno})"
        return f"Unexpected non-whitespace character after JSON at {where}"
    rest = error.doc[error.pos :].strip()
    literal = _LITERALS.get(rest[:1], "")
    rest = rest[_common(rest, literal) :]
    if not rest:
        return "Unexpected end of JSON input"
    return _unexpected(rest, error.doc)


def _unexpected(rest: str, text: str) -> str:
    return f"Unexpected token '{rest[:1]}', \"{text}\" is not valid JSON"


def _common(one: str, other: str) -> int:
    """Length of the common prefix."""
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _raise_malformed(message: str) -> NoReturn:
    raise FlowiseError(400, message, is_early=True)


def _multipart(body: RawBody, content_type: str) -> tuple[dict[str, str], tuple[File, ...]]:
    """Split a multipart body; fields become strings, each part with a file name a file."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    edge = b"--" + (boundary.group(1).encode() if boundary else b"")
    if not boundary or not body.tail.rstrip().endswith(edge + b"--"):
        raise FlowiseError(500, "Unexpected end of form")
    fields: dict[str, str] = {}
    files: list[File] = []
    for part in (b"\r\n" + body.raw).split(b"\r\n" + edge)[1:]:
        head, separator, content = part.partition(b"\r\n\r\n")
        if separator:
            _take(_part_headers(head), content, fields, files)
    return fields, tuple(files)


def _part_headers(head: bytes) -> Mapping[str, str]:
    lines = head.decode("utf-8", "replace").split("\r\n")
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _take(headers: Mapping[str, str], content: bytes, fields: dict[str, str], files: list[File]) -> None:
    disposition = headers.get("content-disposition", "")
    name = re.search(r'\bname="([^"]*)"', disposition)
    file_name = re.search(r'\bfilename="([^"]*)"', disposition)
    if file_name:
        files.append(File(file_name.group(1), headers.get("content-type", ""), content))
    elif name:
        fields[name.group(1)] = content.decode("utf-8", "replace")
