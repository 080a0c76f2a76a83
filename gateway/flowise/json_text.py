"""Reads a JSON text in bounded steps before anything is built of it: UTF-8, number of values, depth (pure).

No step takes longer than a few milliseconds, whatever the text holds and however long it is: a C function that reads
50 MiB at once would keep the interpreter from every other thread, the event loop included.
"""

from __future__ import annotations

import codecs
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from gateway.errors import BadRequest, TooLarge
from gateway.records import DiscreetRecord
from gateway.steps import step

Buffer = bytes | bytearray

STEP = 64 * 1024  # bytes that are read in one step
MAX_DEPTH = 64
MAX_MEMBERS = 256  # of the outermost object
MAX_BELOW = 1000  # members and elements of everything below it, together
MAX_NAME = 512  # bytes of a member's name, as written
MAX_OUTSIDE = 256 * 1024  # bytes outside of strings: numbers, punctuation, white space

_MAX_VALUES = MAX_MEMBERS + MAX_BELOW
_MAX_STRINGS = 2 * _MAX_VALUES  # a name and a text for each value
_BOM = b"\xef\xbb\xbf"
_BRACES_AS_BRACKETS = bytes.maketrans(b"{}", b"[]")
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# A part of a valid string: it never begins or ends inside of an escape.
_PART = re.compile(
    rb'(?:[^"\\\x00-\x1f]{1,1024}+'
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb'|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})){1,256}+'
)
_LONG = b'"' + b"x" * (MAX_NAME + 1) + b'"'  # stands for a long string in the brief text; too long for a name


class JsonText(DiscreetRecord, frozen=True):
    """A text and its brief form, in which long strings are replaced by a short one.

    Attributes:
        source: the text as received.
        brief: valid JSON exactly if `source` is; without a byte order mark.
        values: at least the number of members and elements; exact if it is above `MAX_DEPTH`.
        is_short: whether `brief` is the whole text, so that what is in it can be taken from there.
    """

    source: Buffer
    brief: bytes
    values: int = 0
    is_short: bool = True
    _places: Sequence[int] = (0,)  # in `brief`, ascending: from here on `source` is ahead
    _ahead: Sequence[int] = (0,)  # by this number of bytes

    def origin(self, place: int) -> int:
        """The place in `source` of a place in `brief` that is not inside of a string."""
        return place + self._ahead[bisect_right(self._places, place) - 1]

    def origins(self, start: int, end: int) -> tuple[int, int]:
        """The places in `source` of two places in `brief` that are not inside of strings."""
        if self.is_short:
            return start + self._ahead[0], end + self._ahead[0]
        return self.origin(start), self.origin(end)


def read_text(source: Buffer, what: str) -> JsonText:
    """Checks a text as far as that is possible without a parser. `what` names it in messages.

    A byte order mark is skipped, as Flowise does.

    Raises:
        BadRequest: it is not UTF-8, or nested deeper than `MAX_DEPTH`; or a long string is not valid.
        TooLarge: it holds more values, or more outside of strings, than is allowed.
    """
    _check_utf8(source, what)
    begin = len(_BOM) if source.startswith(_BOM) else 0
    if len(source) > STEP:
        brief, places, ahead = _shortened(source, begin, what)
        values = _check_structure(brief, what)
        return JsonText(source, brief, values, is_short=False, _places=places, _ahead=ahead)
    brief = bytes(source[begin:])
    return JsonText(source, brief, _check_structure(brief, what), _ahead=(begin,))


def _check_utf8(source: Buffer, what: str) -> None:
    try:
        if len(source) <= STEP:
            str(source, "utf-8")
            return
    except UnicodeDecodeError as error:
        place = error.start
    else:
        place = -1 if source.isascii() else _not_utf8(source)
    if place >= 0:
        raise BadRequest(f"{what} must be UTF-8, but byte {place} is not.")


def _not_utf8(source: Buffer) -> int:
    """The place of the first byte that is not UTF-8; -1 if there is none."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(source), STEP):
        step()
        kept = len(decoder.getstate()[0])
        try:
            decoder.decode(source[start : start + STEP], final=start + STEP >= len(source))
        except UnicodeDecodeError as error:
            return start - kept + error.start
    return -1


def _shortened(source: Buffer, begin: int, what: str) -> tuple[bytes, list[int], list[int]]:
    """The brief form of a long text, and where it is behind by how much."""
    parts: list[Buffer] = []
    places, ahead = [0], [begin]
    size = outside = 0
    place = begin
    while (quote := source.find(b'"', place)) >= 0:
        outside += quote - place
        if outside > MAX_OUTSIDE or len(parts) > 2 * _MAX_STRINGS:
            break
        end = _string_end(source, quote, what)
        string = _LONG if end - quote > len(_LONG) else source[quote:end]
        parts += (source[place:quote], string)
        size += quote - place + len(string)
        if string is _LONG:
            places.append(size)
            ahead.append(end - size)
        place = end
    if outside + len(source) - place > MAX_OUTSIDE or len(parts) > 2 * _MAX_STRINGS:
        raise _too_many(what)
    return b"".join([*parts, source[place:]]), places, ahead


def _string_end(source: Buffer, quote: int, what: str) -> int:
    """The place behind the string that begins with this quote."""
    place = quote + 1
    while found := _PART.match(source, place):
        place = found.end()
        if place - quote > STEP:
            step()
    if source[place : place + 1] != b'"':
        raise BadRequest(
            f"{what} is not valid JSON: a string has no end, a control character or a bad escape."
        )
    return place + 1


def _check_structure(brief: bytes, what: str) -> int:
    """Returns a bound of the number of values, which is exact if it is large."""
    values = brief.count(b",") + brief.count(b"[") + brief.count(b"{")
    if values <= MAX_DEPTH:
        return values
    outside = _outside_strings(brief, what)
    opened = outside.count(b"[") + outside.count(b"{")
    values = opened + outside.count(b",")
    if values > _MAX_VALUES:
        raise _too_many(what)
    if opened > MAX_DEPTH and _is_deeper_than(outside, MAX_DEPTH):
        raise BadRequest(f"{what} is nested deeper than {MAX_DEPTH} levels.")
    return values


def _outside_strings(brief: bytes, what: str) -> bytes:
    """The text without its strings; what is not JSON is left to the parser."""
    if b"\\" in brief:
        brief = brief.replace(b"\\\\", b"").replace(b'\\"', b"")
    if brief.count(b'"') > 2 * _MAX_STRINGS:
        raise _too_many(what)
    return b"".join(brief.split(b'"')[::2])


def _is_deeper_than(outside: bytes, depth: int) -> bool:
    """Removes the innermost pairs, level by level; unbalanced brackets are left to the parser."""
    brackets = outside.translate(_BRACES_AS_BRACKETS, _ALL_BUT_BRACKETS)
    for _ in range(depth):
        fewer = brackets.replace(b"[]", b"")
        if len(fewer) == len(brackets):
            return False
        brackets = fewer
    return b"[]" in brackets


def _too_many(what: str) -> TooLarge:
    return TooLarge(
        f"{what} holds too much structure. It may have {MAX_MEMBERS} members, {MAX_BELOW} members and elements below"
        f" them, and {MAX_OUTSIDE} bytes outside of strings."
    )


def check_members(text: JsonText, members: int, most: int, what: str) -> None:
    """Raises TooLarge if the outermost object has more than `most` members, or too many values below them."""
    if members > most:
        raise TooLarge(f"{what} has {members} members. It may have {most}.")
    below = text.values - max(1, members)
    if below > MAX_BELOW:
        raise TooLarge(
            f"{what} has {below} members and elements below its {members} members, of {MAX_BELOW} allowed."
        )


def string_parts(source: Buffer, start: int, end: int) -> Iterator[str]:
    """The decoded text of the string between these places, quotes included, in parts; half surrogate pairs are kept."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    place = start + 1
    while found := _PART.match(source, place, end):
        place = found.end()
        step()
        yield json.loads('"' + decoder.decode(found[0]) + '"')
