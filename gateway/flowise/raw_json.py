"""Reads a JSON object into names with raw values, and writes it with some of them exchanged (pure).

Values keep their bytes and are never built as Python objects, so the cost of a large body is its size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.errors import BadRequest

HEAVY = 256 * 1024  # bytes; reading more takes milliseconds and belongs off the event loop
MAX_DEPTH = 64

_BOM = b"\xef\xbb\xbf"
_RAW_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_NAME = re.compile(r"[A-Za-z0-9_.$@:\[\]-]{1,40}")  # shorter than any API key or session token
_BLANK = re.compile(rb"[ \t\n\r]*")
# Possessive, with an optional closing quote: it never backtracks.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACES_AS_BRACKETS = bytes.maketrans(b"{}", b"[]")
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its decoded name, its text `"name": value`, and the text of the value alone."""

    name: str
    source: memoryview
    value: memoryview


@dataclass(frozen=True, slots=True)
class JsonObject:
    """An object whose members keep their bytes and order.

    Attributes:
        source: the whole text as received.
        members: by decoded name; names are unique.
    """

    source: bytes = field(repr=False)
    members: Mapping[str, Member] = field(repr=False)

    def raw(self, name: str) -> bytes | None:
        """The raw value of a member; None if absent or null."""
        member = self.members.get(name)
        raw = None if member is None else bytes(member.value)
        return None if raw == b"null" else raw

    def with_changes(self, changes: Mapping[str, bytes | None]) -> bytes:
        """The text with raw values exchanged, appended or, for None, removed.

        Every other member keeps its bytes and its place; without a real change the result is `source` itself.
        """
        real = {name: raw for name, raw in changes.items() if self._differs(name, raw)}
        if not real:
            return self.source
        parts: list[bytes | memoryview] = []
        for name, member in self.members.items():
            if name not in real:
                parts.append(member.source)
            elif (raw := real.pop(name)) is not None:
                parts.append(_member(name, raw))
        parts += [_member(name, raw) for name, raw in real.items() if raw is not None]
        return b"{" + b",".join(parts) + b"}"

    def _differs(self, name: str, raw: bytes | None) -> bool:
        member = self.members.get(name)
        return member is not None if raw is None else member is None or member.value != raw


def _member(name: str, raw: bytes) -> bytes:
    return encode(name) + b":" + raw


def encode(value: Any) -> bytes:
    """The JSON text of a value that the gateway puts into a body."""
    return msgspec.json.encode(value)


def text_of(raw: bytes) -> str | None:
    """A raw JSON string as text, half surrogate pairs included; None if the value is not a string."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, str) else None


def read_document(body: bytes, what: str = "The body") -> JsonObject:
    """Reads a whole JSON document, in time linear in its length. `what` names it in messages.

    A byte order mark is skipped, as Flowise does. Raises BadRequest if the document is not UTF-8, not JSON (NaN and
    Infinity are not), not an object, or nested deeper than 64 levels; and as `read_object` does.
    """
    try:
        str(body, "utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{what} must be UTF-8, but byte {error.start} is not.") from None
    text = body.removeprefix(_BOM)
    if _is_deeper_than(text, MAX_DEPTH):
        raise BadRequest(f"{what} is nested deeper than {MAX_DEPTH} levels.")
    found = read_object(text, what)
    return JsonObject(body, found.members)


def _is_deeper_than(text: bytes, depth: int) -> bool:
    """Removes the innermost pairs, level by level; unbalanced brackets are left to the parser."""
    if text.count(b"[") + text.count(b"{") <= depth:
        return False
    outside_strings = _STRING.sub(b"", text)
    brackets = outside_strings.translate(_BRACES_AS_BRACKETS, _ALL_BUT_BRACKETS)
    for _ in range(depth):
        fewer = brackets.replace(b"[]", b"")
        if len(fewer) == len(brackets):
            return False
        brackets = fewer
    return b"[]" in brackets


def read_object(text: bytes, what: str) -> JsonObject:
    """Reads one object of a document that `read_document` has accepted.

    Raises BadRequest if it is not an object, repeats a name, or has the name `__proto__`: JSON readers do not agree on
    what these mean.
    """
    readable, values = _parsed(text, what)
    members: dict[str, Member] = {}
    for member in _members(text, readable, values, what):
        if member.name == "__proto__":
            raise BadRequest(f"{what} must not have the name __proto__.")
        members[member.name] = member
    return JsonObject(text, members)


def _parsed(text: bytes, what: str) -> tuple[bytes, list[msgspec.Raw]]:
    """Returns the text as the parser could read it, equally long, and the raw values.

    Of a repeated name the parser keeps the first place and the last value.
    """
    if not text.strip():
        raise BadRequest(f"{what} is empty. It must be a JSON object, `{{…}}`.")
    try:
        try:
            return text, list(_RAW_MEMBERS.decode(text).values())
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            # Half a surrogate pair, as of a cut emoji, is JSON (RFC 8259 8.2), but msgspec refuses it.
            readable = _SURROGATE_ESCAPE.sub(rb"\\ufffd", text)
            return readable, list(_RAW_MEMBERS.decode(readable).values())
    except msgspec.ValidationError:
        raise BadRequest(f"{what} must be a JSON object, `{{…}}`.") from None
    except msgspec.DecodeError as error:
        reason = str(error).removeprefix("JSON is malformed: ")
        raise BadRequest(f"{what} is not valid JSON: {reason}.") from None
    except RecursionError:
        raise BadRequest(f"{what} is nested deeper than {MAX_DEPTH} levels.") from None


def _members(text: bytes, readable: bytes, values: list[msgspec.Raw], what: str) -> Iterator[Member]:
    """Scans the text in step with the parser's values. Where the two differ, a name is repeated.

    What follows a value is checked because a number may be the beginning of a longer one.
    """
    view = memoryview(text)
    remaining = iter(values)
    names: set[str] = set()
    position = _end(_BLANK, text, _end(_BLANK, text, 0) + 1)
    while text[position] == ord('"'):
        key_end = _end(_STRING, text, position)
        name = _TEXT.decode(readable[position:key_end])
        start = _end(_BLANK, text, _end(_BLANK, text, key_end) + 1)
        value = b"" if name in names else bytes(next(remaining))
        end = start + len(value)
        following = _end(_BLANK, text, end)
        if not value or not readable.startswith(value, start) or text[following] not in b",}":
            raise BadRequest(f"{what} has the name {shown(name)} twice. Send it once.")
        names.add(name)
        yield Member(name, view[position:end], view[start:end])
        position = _end(_BLANK, text, following + 1) if text[following] == ord(",") else following


def _end(pattern: re.Pattern[bytes], text: bytes, position: int) -> int:
    found = pattern.match(text, position)
    return found.end() if found else position


def shown(name: str) -> str:
    """A name that a client sent, for a message or the log; replaced if it may be a text or a credential.

    A question sent with the wrong Content-Type is read as one long name of a form field.
    """
    return name if _NAME.fullmatch(name) else "(a name that is not shown)"
