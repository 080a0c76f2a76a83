"""Which header fields pass to Flowise and back, and the head of a request to Flowise (pure).

Every field that is not listed here is dropped.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import AsyncIterator, Collection, Iterable, Mapping

from msgspec.structs import force_setattr

from gateway.errors import UpstreamBadReply
from gateway.records import DiscreetRecord

UP = ("content-type", "accept", "user-agent", "traceparent", "tracestate", "if-none-match", "range")
_UP = frozenset({*(name.encode() for name in UP), b"origin"})
_NAMES_DOWN = (
    "etag", "last-modified", "cache-control", "date", "x-accel-buffering", "accept-ranges", "retry-after",
    "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset",
    "content-type", "content-disposition", "content-range", "content-language", "content-encoding",
)  # fmt: skip
_ORIGIN = re.compile(
    rb"[A-Za-z][A-Za-z0-9+.-]*://(?:(?P<name>[A-Za-z0-9._~-]+)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?"
)
_NUMERIC_END = re.compile(rb"(?:.*\.)?(?:[0-9]+|0[Xx][0-9A-Fa-f]*)\.?")
_HIGHEST_PORT = 65535
_AUTHORIZATION = b"Authorization"
PROXY_REFUSES = 407
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def own_fields(identity: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Encode the gateway's own fields of a request to Flowise; empty values are dropped."""
    return [(name.encode(), value.encode()) for name, value in identity.items() if value]


def upward(
    fields: Iterable[tuple[bytes, bytes]], without: Collection[bytes] = ()
) -> list[tuple[bytes, bytes]]:
    """A client's header fields that may reach Flowise, the first of each name. `without`: names that are left out.

    `Origin` passes only if it is valid: `null` makes Flowise hang. Values with control characters are dropped.
    """
    passed: dict[bytes, bytes] = {}
    allowed = _UP
    for raw_name, value in fields:
        name = raw_name.lower()
        if name not in allowed or name in passed or name in without or _CONTROL.search(value):
            continue
        if name != b"origin" or _is_origin(value):
            passed[name] = value
    return list(passed.items())


def downward(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Flowise's header fields that may reach the client, decoded as UTF-8, else Latin-1."""
    passed = []
    for raw_name, value in fields:
        name = _DOWN.get(raw_name.lower())
        if name is not None and not _CONTROL.search(value):
            passed.append((name, value.decode() if value.isascii() else _text(value)))
    return passed


def refusal_of_proxy() -> UpstreamBadReply:
    """What a reply with the status `PROXY_REFUSES` is, which only a proxy sends: it wants other credentials."""
    return UpstreamBadReply(
        "The proxy in front of Flowise does not let the gateway pass.",
        reason=f"proxy: status {PROXY_REFUSES}",
    )


def check_coding(fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a body with these fields (names in lower case) that is compressed although `identity` was asked for.

    It could be neither observed nor completed, and the client may not understand it.

    Raises:
        UpstreamBadReply: it is compressed.
    """
    given = [value for name, value in fields if name == b"content-encoding"]
    if not given:
        return
    values = b",".join(given).lower().split(b",")
    codings = [coding for value in values if (coding := value.strip()) not in (b"", b"identity")]
    if codings:
        named = b", ".join(codings).decode("latin-1")
        raise UpstreamBadReply(
            f"The reply of Flowise is compressed ({named}), which was not asked for. Turn compression off between "
            "Flowise and the gateway."
        )


def _is_origin(value: bytes) -> bool:
    """Whether Flowise's `new URL(origin)` accepts it: valid port, valid address."""
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


_DOWN = {name.encode(): _canonical(name) for name in _NAMES_DOWN}


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class Addressed(DiscreetRecord, frozen=True):
    """What a request has from the server that it goes to: the path of its URL, and header fields, which come first.

    `lines`: the fields as they are sent; `lines_without_key`: for a request that has a key of its own.
    """

    prefix: bytes = b""
    fields: tuple[tuple[bytes, bytes], ...] = ()
    lines: bytes = b""
    lines_without_key: bytes = b""

    def __post_init__(self) -> None:
        keyless = [pair for pair in self.fields if pair[0] != _AUTHORIZATION]
        force_setattr(self, "lines", _lines(self.fields))
        force_setattr(self, "lines_without_key", _lines(keyless))


def _lines(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode header fields. Names and values must have been checked."""
    return b"".join([b"%b: %b\r\n" % pair for pair in fields])


NOWHERE = Addressed()


class UpstreamRequest(DiscreetRecord, frozen=True):
    """A request to any server of a Flowise. The pieces of a tuple are sent in turn; an iterator is sent chunked."""

    method: str
    target: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes | tuple[bytes | bytearray | memoryview, ...] | AsyncIterator[bytes] = b""

    def encoded(self, server: Addressed = NOWHERE) -> bytes:
        """The head for this server, and the body if it is bytes."""
        body: bytes = b""
        if isinstance(self.body, bytes):
            body = self.body
            framing = b"" if self.method in ("GET", "HEAD") else b"Content-Length: %d\r\n" % len(body)
        elif isinstance(self.body, tuple):
            framing = b"Content-Length: %d\r\n" % sum(map(len, self.body))
        else:
            framing = b"Transfer-Encoding: chunked\r\n"
        has_key = bool(self.fields) and self.fields[0][0] == _AUTHORIZATION  # the client's own
        lines = server.lines_without_key if has_key else server.lines
        head = self.method.encode(), server.prefix, self.target, lines, _lines(self.fields), framing, body
        return b"%b %b%b HTTP/1.1\r\n%b%b%b\r\n%b" % head
