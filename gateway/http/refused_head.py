"""What can be read of a request head that is too large, so that the refusal fits the request (pure)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) (/[^ \r\n]*) HTTP/1\.([01])")
_METHOD = re.compile(rb"([A-Z]{1,20}) ")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class RefusedHead(NamedTuple):
    """The method and target of a request line, and some of its fields in their order.

    `target` is None if it is too long or is no path; `is_http_10` is the version that the client speaks.
    """

    method: str
    target: str | None
    is_http_10: bool
    fields: tuple[tuple[str, str], ...]


def read_refused_head(head: bytes, wanted: Collection[str], longest: int) -> RefusedHead:
    """Read the complete lines at the start of `head`.

    Args:
        head: may end in the middle of a line, and may begin in one.
        wanted: lower-case names of the fields to return.
        longest: bytes of a line; longer ones are left out.
    """
    first, *lines = head.partition(END)[0].split(b"\r\n")
    if END not in head:
        lines = lines[:-1]  # incomplete
    method = _METHOD.match(first)
    line = _REQUEST_LINE.fullmatch(first)
    return RefusedHead(
        "GET" if method is None else method[1].decode(),
        None if line is None or len(line[2]) > longest else _text(line[2]),
        line is not None and line[3] == b"0",
        tuple(_fields(lines, wanted, longest)),
    )


def _fields(lines: list[bytes], wanted: Collection[str], longest: int) -> list[tuple[str, str]]:
    pairs = (line.partition(b":") for line in lines if len(line) <= longest and not _CONTROL.search(line))
    named = ((_text(name), _text(value.strip(b" \t"))) for name, colon, value in pairs if colon)
    return [(name, value) for name, value in named if name.lower() in wanted]


def _text(raw: bytes) -> str:
    """As aiohttp decodes targets and fields."""
    return raw.decode(errors="surrogateescape")
