"""Looks into large JSON of others without building it (pure).

A value that does not matter is skipped in C, at about 2 ns a byte: 10 ms for 4 MiB, the most for which a call holds the
interpreter. What is built is bounded: `MOST_ITEMS` of an array, `MOST_MEMBERS` of an object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import msgspec
from msgspec.structs import astuple

MOST_ITEMS = 1024
MOST_MEMBERS = 256

_SMALL = 4096  # bytes; a list cannot be long
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_NONE = msgspec.Raw(b"")
_VALUE = msgspec.json.Decoder(msgspec.Raw)
_TEXT = msgspec.json.Decoder(str)
_BEHIND_VALUE = re.compile(r"JSON is malformed: trailing characters \(byte (\d+)\)")
_BOM = b"\xef\xbb\xbf"
_BLANK = re.compile(rb"[ \t\n\r]*")
_NAME = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_ESCAPE = 6  # bytes of one
_PIECE = 64 * 1024  # bytes of one substitution

_HOSTILE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class TooManyError(ValueError):
    """An array is longer than `MOST_ITEMS`."""


class ScannedMember(NamedTuple):
    """One member of an object: its decoded name, and where it, its value, and it ends."""

    name: str
    start: int
    value: int
    end: int


def items(array: bytes | msgspec.Raw) -> list[msgspec.Raw]:
    """The raw items of an array; none if it is no array.

    Raises:
        TooManyError: there are more than `MOST_ITEMS`.
    """
    try:
        raw = _LIST.decode(array) if len(array) <= _SMALL else first_items(array, MOST_ITEMS + 1)
    except _HOSTILE:
        return []
    if len(raw) > MOST_ITEMS:
        raise TooManyError
    return raw


def first_items(array: bytes | msgspec.Raw, most: int) -> list[msgspec.Raw]:
    """The first raw items of an array, at most so many; the others are skipped, where a list would build them all.

    Raises:
        msgspec.MsgspecError: it is no array, or no JSON.
    """
    return [item for item in astuple(_decoder_of_first(most).decode(array)) if item is not _NONE]


@cache
def _decoder_of_first(most: int) -> msgspec.json.Decoder[msgspec.Struct]:
    """A struct in the form of an array skips what it has no field for. For 1,025 items it takes 0.4 MB."""
    fields = [(f"item{number}", msgspec.Raw, _NONE) for number in range(most)]
    return msgspec.json.Decoder(msgspec.defstruct("_Items", fields, array_like=True))


def members(text: bytes) -> list[ScannedMember]:
    """The members of an object, in their order; a name may occur twice.

    Raises:
        ValueError: it is no JSON object, or has more than `MOST_MEMBERS`; what is wrong, as half a sentence.
    """
    try:
        return list(_scan(text))
    except _HOSTILE:
        pass
    try:  # half a surrogate pair, as of a cut emoji, is JSON (RFC 8259 8.2), but msgspec refuses it
        return list(_scan(_without_surrogates(text)))
    except _HOSTILE:
        raise ValueError("it is not valid JSON") from None


def with_changes(text: bytes, found: Sequence[ScannedMember], changes: Mapping[str, bytes | None]) -> bytes:
    """The object with raw values exchanged or, for None, members removed; every other member keeps its bytes.

    Of a name that occurs twice the later ones are removed. Names that do not occur are not added.

    Args:
        text: the object.
        found: its members.
        changes: by name.
    """
    if not any(member.name in changes for member in found):
        return text
    left = dict(changes)
    parts = []
    for member in found:
        if member.name not in changes:
            parts.append(text[member.start : member.end])
        elif (raw := left.pop(member.name, None)) is not None:
            parts.append(text[member.start : member.value] + raw)
    return b"{" + b",".join(parts) + b"}"


def _scan(text: bytes) -> Iterator[ScannedMember]:
    at = _after_blank(text, len(_BOM) if text.startswith(_BOM) else 0)
    if text[at : at + 1] != b"{":
        raise ValueError("it is not a JSON object")
    at = _after_blank(text, at + 1)
    count = 0
    while text[at : at + 1] != b"}" or count:
        if (count := count + 1) > MOST_MEMBERS:
            raise ValueError(f"it has more than {MOST_MEMBERS} members")
        member = _member(text, at)
        yield member
        at = _after_blank(text, member.end)
        if text[at : at + 1] == b"}":
            break
        if text[at : at + 1] != b",":
            raise ValueError("it is not valid JSON")
        at = _after_blank(text, at + 1)
    if _after_blank(text, at + 1) != len(text):
        raise ValueError("it is not valid JSON")


def _member(text: bytes, start: int) -> ScannedMember:
    name = _NAME.match(text, start)
    colon = _after_blank(text, name.end() if name else len(text))
    if name is None or text[colon : colon + 1] != b":":
        raise ValueError("it is not valid JSON")
    value = _after_blank(text, colon + 1)
    return ScannedMember(
        _TEXT.decode(name[0]), start, value, value + _size_of_value(memoryview(text)[value:])
    )


def _size_of_value(text: memoryview) -> int:
    """The size of the value at the beginning, from what the parser says about the bytes behind it.

    Where a value ends that msgspec has skipped stands in its refusal of what follows; in an object something does.
    """
    try:
        _VALUE.decode(text)
    except msgspec.DecodeError as error:
        if behind := _BEHIND_VALUE.fullmatch(str(error)):
            return len(bytes(text[: int(behind[1]) - 1]).rstrip(b" \t\n\r"))
        raise
    raise ValueError("it is not valid JSON")


def _after_blank(text: bytes, position: int) -> int:
    blank = _BLANK.match(text, position)
    return blank.end() if blank else position


def _without_surrogates(text: bytes) -> bytes:
    """The text, equally long, with other escapes in their place; in pieces, so that no call in C is long."""
    pieces, at = [], 0
    while at < len(text):
        end = at + _PIECE
        if end < len(text) and (escape := text.rfind(b"\\", end - _ESCAPE, end)) >= 0:
            end = escape  # it may be cut
        pieces.append(_SURROGATE_ESCAPE.sub(rb"\\ufffd", text[at:end]))
        at = end
    return b"".join(pieces)
