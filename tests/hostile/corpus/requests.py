"""The shape of a hostile request, and what builds one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.harness.raw_client import request
from tests.harness.surface import PREDICT

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True)
class Hostile:
    """A request, and what may come of it.

    Attributes:
        make: builds the bytes; not before they are needed, because some are large.
        status: of the reply that is right; None: the connection is closed without one.
        says: what the reply's body holds.
        route, server: keys of the configuration.
    """

    make: Callable[[], bytes]
    status: int | None
    says: str = ""
    route: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)


def post(body: Callable[[], bytes], path: str = PREDICT, kind: str = "application/json", **headers: str):
    """Builds a POST."""
    return lambda: request("POST", path, body(), Content_Type=kind, **headers)


def in_chunks(body: bytes, size: int, kind: str = "application/json") -> bytes:
    """A POST in chunks of `size` bytes."""
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: gateway\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def get(path: str, *fields: bytes):
    """Builds a GET with these header lines."""
    lines = b"".join(line + b"\r\n" for line in fields)
    return lambda: b"GET " + path.encode() + b" HTTP/1.1\r\nHost: gateway\r\n" + lines + b"\r\n"


def repeated(before: bytes, unit: bytes, size: int, after: bytes):
    """Builds `before`, as many units as `size` bytes hold, `after`."""
    return partial(_repeated, before, unit, size, after)


def _repeated(before: bytes, unit: bytes, size: int, after: bytes) -> bytes:
    return before + unit * (size // len(unit)) + after


def members(before: bytes, size: int, after: bytes):
    """Builds `before`, members `"0":0,"1":1,…` of altogether `size` bytes, `after`."""

    def make() -> bytes:
        parts, length, number = [], 0, 0
        while length < size:
            parts.append(b'"%d":%d' % (number, number))
            length += len(parts[-1]) + 1
            number += 1
        return before + b",".join(parts) + after

    return make
