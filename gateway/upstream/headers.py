"""Which header fields pass, up and down; everything that is not named here is left out (pure)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass

# What a client says and Flowise may hear. All else that Flowise hears is the gateway's own word.
UP = ("content-type", "accept", "user-agent", "traceparent", "tracestate", "if-none-match", "range")
_DOWN = frozenset(
    {
        "etag", "last-modified", "cache-control", "date", "x-accel-buffering", "accept-ranges", "retry-after",
        "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset",
        "content-type", "content-disposition", "content-range", "content-language", "content-encoding",
    }
)  # fmt: skip
_ORIGIN = re.compile(
    rb"[A-Za-z][A-Za-z0-9+.-]*://(?:(?P<name>[A-Za-z0-9._~-]+)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?"
)
_NUMERIC_END = re.compile(rb"(?:.*\.)?(?:[0-9]+|0[Xx][0-9A-Fa-f]*)\.?")
_HIGHEST_PORT = 65535
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def upward(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """A client's header fields that may reach Flowise, one per name.

    `Origin` passes only if it is one: `null` makes Flowise hang (PROTOCOL 1.5). Values with control
    characters, and all but the first of a repeated field, are left out.
    """
    passed: dict[bytes, bytes] = {}
    allowed = {name.encode() for name in UP}
    for raw_name, value in fields:
        name = raw_name.lower()
        if name in passed or _CONTROL.search(value):
            continue
        if name in allowed or (name == b"origin" and _is_origin(value)):
            passed[name] = value
    return list(passed.items())


def downward(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Flowise's header fields that may reach the client, as text (UTF-8, else Latin-1)."""
    passed = []
    for raw_name, value in fields:
        name = raw_name.decode("latin-1").lower()
        if name in _DOWN and not _CONTROL.search(value):
            passed.append((_canonical(name), _text(value)))
    return passed


def request_head(method: str, target: bytes, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The bytes of a request head. Names and values must have been checked before."""
    lines = [b"%b %b HTTP/1.1\r\n" % (method.encode(), target)]
    lines.extend(b"%b: %b\r\n" % pair for pair in fields)
    return b"".join(lines) + b"\r\n"


def own_fields(identity: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The gateway's own fields of a request to Flowise; empty values are left out."""
    return [(name.encode(), value.encode()) for name, value in identity.items() if value]


def _is_origin(value: bytes) -> bool:
    """Whether Flowise's `new URL(origin)` can read it: a port that is one, an address that is one."""
    parts = _ORIGIN.fullmatch(value)
    if parts is None or int(parts["port"] or 0) > _HIGHEST_PORT:
        return False
    if parts["ipv6"] is None and not _NUMERIC_END.fullmatch(parts["name"]):
        return True
    try:
        ipaddress.ip_address((parts["ipv6"] or parts["name"]).decode())
    except ValueError:
        return False
    return True


def _canonical(name: str) -> str:
    return "ETag" if name == "etag" else "-".join(part.capitalize() for part in name.split("-"))


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What is written to Flowise. A body of pieces has no length and is sent chunked."""

    method: str
    target: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes | AsyncIterator[bytes] = b""

    def encoded(self) -> bytes:
        """The head, and the body if it is at hand."""
        if isinstance(self.body, bytes):
            length = [] if self.method in ("GET", "HEAD") else [(b"Content-Length", b"%d" % len(self.body))]
            return request_head(self.method, self.target, [*self.fields, *length]) + self.body
        return request_head(self.method, self.target, [*self.fields, (b"Transfer-Encoding", b"chunked")])
