"""Splits and decodes a raw request target, once, and builds the target for Flowise (pure).

No other file decodes percent-escapes of a target, so none is decoded twice: in CVE-2024-31621 two readers understood
one path differently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote_to_bytes

from gateway.errors import BadRequest

BASE = "/t/"

_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+")
_VISIBLE_ASCII = re.compile(r"[!-~]+")
_MALFORMED_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_FORBIDDEN_IN_SEGMENT = re.compile(r"[/\\%\x00-\x1f\x7f-\x9f]")


def split_base(raw_target: str) -> tuple[str, str]:
    """Splits the base path `/t/<token>` off a target: the token ('' if there is none) and the remaining target.

    The token is neither decoded nor verified: all its characters are unreserved (RFC 3986 2.3), so there is one way to
    write it. Raises BadRequest for any other text in its place.
    """
    if not raw_target.startswith(BASE):
        return "", raw_target
    token, _, rest = raw_target[len(BASE) :].partition("/")
    if not _UNRESERVED.fullmatch(token):
        raise BadRequest("The base path /t/ must be followed by a session token, exactly as it was issued.")
    return token, f"/{rest}"


def split_target(raw_target: str) -> tuple[tuple[str, ...], str]:
    """Splits an origin-form target into its decoded path segments and its raw query ('' if none or empty).

    The path `/` has no segments; a path that ends in `/` has an empty last one. Raises BadRequest for every other form
    of target, for an empty segment, `.` and `..`, and for a decoded `/`, backslash, `%`, control character or byte
    that is not UTF-8.
    """
    if not raw_target.startswith("/"):
        raise BadRequest("The request target must be a path that begins with '/', not a full URL or '*'.")
    if not _VISIBLE_ASCII.fullmatch(raw_target) or "#" in raw_target:
        raise BadRequest(
            "The request target may hold visible ASCII characters except '#'. Percent-encode all others."
        )
    raw_path, _, raw_query = raw_target.partition("?")
    *leading, last = raw_path[1:].split("/")
    if not leading and not last:
        return (), raw_query
    segments = [_segment(raw) for raw in leading]
    return (*segments, _segment(last) if last else ""), raw_query


def _segment(raw: str) -> str:
    segment = _percent_decoded(raw, "The path")
    if not segment or segment in {".", ".."}:
        raise BadRequest("The path must not have empty segments, '.' or '..'.")
    if _FORBIDDEN_IN_SEGMENT.search(segment):
        raise BadRequest("A path segment must not hold an encoded '/', '\\', '%' or a control character.")
    return segment


def _percent_decoded(raw: str, what: str) -> str:
    if _MALFORMED_ESCAPE.search(raw):
        raise BadRequest(f"{what} has a '%' that is not followed by two hexadecimal digits.")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise BadRequest(f"{what} must be UTF-8 once its percent-escapes are decoded.") from None


def split_query(raw_query: str, allowed: Iterable[str]) -> dict[str, str]:
    """Reads `name=value&…`; `+` is a space.

    Raises BadRequest, naming the parameter, unless each name is one of `allowed` and occurs once.
    """
    names = tuple(allowed)
    parameters: dict[str, str] = {}
    for pair in raw_query.split("&") if raw_query else ():
        raw_name, _, raw_value = pair.partition("=")
        name = _percent_decoded(raw_name.replace("+", " "), "The query")
        if name not in names:
            raise BadRequest(f"The query has a parameter that is not one of: {', '.join(names)}.")
        if name in parameters:
            raise BadRequest(f"The query has the parameter {name} twice. Send it once.")
        parameters[name] = _percent_decoded(raw_value.replace("+", " "), f"The query parameter {name}")
    return parameters


def join_target(segments: Iterable[str], query: Mapping[str, str]) -> bytes:
    """Builds an origin-form target; every byte that is not unreserved (RFC 3986 2.3) is percent-encoded.

    Raises ValueError for a segment that is empty, `.` or `..`: the caller has checked the parts.
    """
    parts = tuple(segments)
    if any(part in {"", ".", ".."} for part in parts):
        raise ValueError(f"not a path segment among {parts!r}")
    path = "".join("/" + quote(part, safe="") for part in parts)
    pairs = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    return (f"{path}?{pairs}" if pairs else path or "/").encode("ascii")
