"""Reads a JSON object into names with raw values, and writes it with some of them exchanged (pure).

Values keep their bytes and are never built as Python objects. Number and depth of the values are checked before, in
`json_text.py`, so the cost of a body is its size.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gateway.errors import BadRequest, TooLarge
from gateway.flowise.json_text import (
    MAX_DEPTH,
    MAX_MEMBERS,
    MAX_NAME,
    STEP,
    Buffer,
    JsonText,
    check_members,
    read_text,
    string_parts,
)
from gateway.records import DiscreetRecord

HEAVY = 256 * 1024  # bytes; parsing more takes milliseconds and belongs off the event loop
_MANY = 256  # commas; so do more members

_RAW_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAW_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_NAME = re.compile(r"[A-Za-z0-9_.$@:\[\]-]{1,40}")  # shorter than any API key or session token
# Possessive, with an optional closing quote: it never backtracks.
_MEMBER = re.compile(rb'[ \t\n\r]*("[^"\\]*+(?:\\.[^"\\]*+)*+"?)[ \t\n\r]*:?[ \t\n\r]*', re.DOTALL)
_BLANK = re.compile(rb"[ \t\n\r]*")
_AFTER = re.compile(rb"[ \t\n\r]*([,}]?)")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")

Pieces = tuple[bytes | bytearray | memoryview, ...]


class Member(msgspec.Struct, frozen=True, gc=False):
    """One member of an object: the places of its text `"name": value` and of the value alone, in the brief text."""

    start: int
    value: int
    end: int


class JsonObject(DiscreetRecord, frozen=True):
    """An object whose members keep their bytes and order.

    Attributes:
        text: the document.
        start, end: the places of the object in it, in the brief text.
        members: by decoded name; names are unique.
    """

    text: JsonText
    start: int
    end: int
    members: dict[str, Member]

    @property
    def source(self) -> Buffer | memoryview:
        """The whole object as received."""
        is_document = self.start == 0 and self.end == len(self.text.brief)
        return self.text.source if is_document else self._slice(self.start, self.end)

    def place(self, name: str) -> tuple[int, int]:
        """Where the value of a member is in the document; (0, 0) if it is absent or null."""
        member = self.members.get(name)
        if member is None or self.text.brief.startswith(b"null", member.value):
            return 0, 0
        return self.text.origins(member.value, member.end)

    def size(self, name: str) -> int:
        """The size of a raw value in bytes; 0 if it is absent or null."""
        start, end = self.place(name)
        return end - start

    def raw(self, name: str) -> bytes | None:
        """The raw value of a member, a copy; None if it is absent or null."""
        return self.short(name, sys.maxsize)

    def short(self, name: str, most: int) -> bytes | None:
        """The raw value as `raw` returns it, if it has at most `most` bytes; of a longer one only its beginning."""
        if self.text.is_short:  # most are; the calls of the other way cost more than the value
            member = self.members.get(name)
            if member is None or self.text.brief.startswith(b"null", member.value):
                return None
            return self.text.brief[member.value : min(member.end, member.value + most + 1)]
        start, end = self.place(name)
        return bytes(self.text.source[start : min(end, start + most + 1)]) if end else None

    def object(self, name: str, what: str) -> JsonObject:
        """The value of a member as an object; an empty one if it is absent or null. Raises as `read_document` does."""
        member = self.members.get(name)
        if member is None or self.text.brief.startswith(b"null", member.value):
            return EMPTY_OBJECT
        return _read_object(self.text, member.value, member.end, what)

    def objects(self, name: str, what: str) -> Iterator[JsonObject]:
        """The objects among the elements of a member that is an array. Raises as `read_document` does."""
        start = self.members[name].value
        brief = self.text.brief[start : self.members[name].end]
        place = 1
        for raw in _RAW_ELEMENTS.decode(_SURROGATE_ESCAPE.sub(rb"\\ufffd", brief)):
            begin = _end(_BLANK, brief, place)
            place = _end(_AFTER, brief, begin + len(bytes(raw)))
            if brief.startswith(b"{", begin):
                yield _read_object(self.text, start + begin, start + begin + len(bytes(raw)), what)

    def parts(self, name: str) -> Iterator[str]:
        """The decoded text of a member that is a string, in parts."""
        return string_parts(self.text.source, *self.place(name))

    def pieces(self, changes: Mapping[str, bytes | Pieces | None]) -> Pieces:
        """The text with raw values exchanged, appended or, for None, removed; long parts are not copied.

        Every other member keeps its bytes and its place; without a real change the result is the object as received.
        """
        if not changes:
            return (self.source,)
        real = {name: raw for name, raw in changes.items() if self._differs(name, raw)}
        if not real:
            return (self.source,)
        parts: list[bytes | bytearray | memoryview] = []
        if self.members and real.keys().isdisjoint(self.members):  # nothing changes before what is new
            last = self.members[next(reversed(self.members))]
            return (self._slice(self.start, last.end), *_written(real), b"}")
        for name, member in self.members.items():
            if name not in real:
                parts += (b",", self._slice(member.start, member.end))
            elif (raw := real.pop(name)) is not None:
                parts += _member(name, raw)
        return (b"{", *[*parts, *_written(real)][1:], b"}")

    def with_changes(self, changes: Mapping[str, bytes | Pieces | None]) -> bytes:
        """The same text, joined to one copy."""
        pieces = self.pieces(changes)
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def _differs(self, name: str, raw: bytes | Pieces | None) -> bool:
        member = self.members.get(name)
        if raw is None or member is None:
            return raw is not None or member is not None
        return not isinstance(raw, bytes) or self._slice(member.value, member.end) != raw

    def _slice(self, start: int, end: int) -> Buffer | memoryview:
        source, (start, end) = self.text.source, self.text.origins(start, end)
        return memoryview(source)[start:end] if end - start > STEP else source[start:end]


def _member(name: str, raw: bytes | Pieces) -> Pieces:
    return (b",", encode(name), b":", *((raw,) if isinstance(raw, bytes) else raw))


def _written(members: Mapping[str, bytes | Pieces | None]) -> Pieces:
    parts: list[bytes | bytearray | memoryview] = []
    for name, raw in members.items():
        if raw is not None:
            parts += _member(name, raw)
    return tuple(parts)


def joined(pieces: Pieces) -> Pieces:
    """The same bytes in fewer pieces: only long ones stay by themselves."""
    if len(pieces) == 1:
        return pieces
    found: list[bytes | bytearray | memoryview] = []
    short: list[bytes | bytearray | memoryview] = []
    for piece in pieces:
        if len(piece) <= STEP:
            short.append(piece)
            continue
        found += (b"".join(short), piece)
        short.clear()
    return tuple(piece for piece in (*found, b"".join(short)) if piece)


EMPTY_OBJECT = JsonObject(JsonText(b"{}", b"{}"), 0, 2, {})


def is_heavy(text: Buffer) -> bool:
    """Whether reading this text takes milliseconds and belongs off the event loop."""
    return len(text) > STEP or text.count(b",") > _MANY


def encode(value: Any) -> bytes:
    """The JSON text of a value that the gateway puts into a body."""
    return msgspec.json.encode(value)


def text_of(raw: bytes) -> str | None:
    """A raw JSON string as text, half surrogate pairs included; None if the value is not a string."""
    try:
        return _TEXT.decode(raw)
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _with_half_pairs(raw)


def _with_half_pairs(raw: bytes) -> str | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, str) else None


def read_document(body: Buffer, what: str = "The body", most: int = MAX_MEMBERS) -> JsonObject:
    """Reads a whole JSON document, in time linear in its length. `what` names it in messages.

    A byte order mark is skipped, as Flowise does.

    Raises:
        BadRequest: the document is not UTF-8, not JSON (NaN and Infinity are not), not an object, or nested too deep;
            or an object repeats a name, or has the name `__proto__`: JSON readers do not agree on what these mean.
        TooLarge: it has more than `most` members, or too many below them.
    """
    text = read_text(body, what)
    found = _read_object(text, 0, len(text.brief), what)
    check_members(text, len(found.members), most, what)
    return found


def _read_object(text: JsonText, start: int, end: int, what: str) -> JsonObject:
    """Reads one object of a checked text. Raises BadRequest as `read_document` does."""
    brief = text.brief if end - start == len(text.brief) else text.brief[start:end]
    readable, values = _parsed(brief, what, is_exact=len(text.source) <= STEP)
    return JsonObject(text, start, end, _members(brief, readable, values, start, what))


def _parsed(text: bytes, what: str, *, is_exact: bool) -> tuple[bytes, list[msgspec.Raw]]:
    """Returns the text as the parser could read it, equally long, and the raw values.

    Of a repeated name the parser keeps the first place and the last value. `is_exact`: the parser's places are those
    of the text as received.
    """
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
        if not text.strip():
            raise BadRequest(f"{what} is empty. It must be a JSON object, `{{…}}`.") from None
        reason = str(error).removeprefix("JSON is malformed: ")
        reason = reason if is_exact else reason.partition(" (byte")[0]
        raise BadRequest(f"{what} is not valid JSON: {reason}.") from None
    except RecursionError:
        raise BadRequest(f"{what} is nested deeper than {MAX_DEPTH} levels.") from None


def _members(
    text: bytes, readable: bytes, values: list[msgspec.Raw], start: int, what: str
) -> dict[str, Member]:
    """Scans the text in step with the parser's values. Where the two differ, a name is repeated.

    What follows a value is checked because a number may be the beginning of a longer one.
    """
    remaining = iter(values)
    members: dict[str, Member] = {}
    place = text.index(b"{") + 1
    while found := _MEMBER.match(text, place):
        begin, name_end = found.span(1)
        if name_end - begin > MAX_NAME:
            raise TooLarge(f"{what} has a name of more than {MAX_NAME} bytes.")
        name, value = _TEXT.decode(readable[begin:name_end]), found.end()
        raw = b"" if name in members else bytes(next(remaining))
        end = value + len(raw)
        following = _AFTER.match(text, end)
        if not raw or not readable.startswith(raw, value) or following is None or not following[1]:
            raise BadRequest(f"{what} has the name {shown(name)} twice. Send it once.")
        if name == "__proto__":
            raise BadRequest(f"{what} must not have the name __proto__.")
        members[name] = Member(start + begin, start + value, start + end)
        place = following.end()
    return members


def _end(pattern: re.Pattern[bytes], text: bytes, place: int) -> int:
    found = pattern.match(text, place)
    return found.end() if found else place


def shown(name: str) -> str:
    """A name that a client sent, for a message or the log; replaced if it may be a text or a credential.

    A question sent with the wrong Content-Type is read as one long name of a form field.
    """
    return name if _NAME.fullmatch(name) else "(a name that is not shown)"
