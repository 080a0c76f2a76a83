"""Checks of what a client sends on to Flowise: ids, file names, lengths of texts, references to stored files (pure).

All of them take time linear in the text and change nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.errors import BadRequest, TooLarge
from gateway.flowise.json_text import STEP, Buffer
from gateway.flowise.raw_json import JsonObject, shown, text_of
from gateway.steps import step

STORAGE_PREFIX = "FILE-STORAGE::"  # makes Flowise read a file from its own storage (CVE-2026-41268)
UNBOUND_ID_CHARACTERS = 128
BOUND_ID_CHARACTERS = 256
FILE_NAME_BYTES = 255

_UNBOUND_ID = re.compile(rf"[A-Za-z0-9._+@-]{{1,{UNBOUND_ID_CHARACTERS}}}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NODE_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
_STORAGE_PREFIX = STORAGE_PREFIX.encode()
# Escapes without their backslashes, in both cases of the digits. Those of a backslash go first: `\\u005cu0046` is an
# escape in a text that is parsed twice.
_PREFIX_ESCAPES = tuple(
    (digits % code, bytes([code]).replace(b"\\", b""))
    for code in (ord("\\"), *sorted(set(_STORAGE_PREFIX)))
    for digits in (b"u%04x", b"u%04X")
)
_LONGEST_WRITTEN = len(b"u0046") * len(_STORAGE_PREFIX)
_BYTES_PER_CHARACTER = 12  # a character outside the BMP, written as two escapes
_BYTES_OF_STRUCTURE = 64 * 1024
_TYPE_BYTES = 64  # of a raw type of an upload
# C0, DEL and C1 controls, and half surrogate pairs, which UTF-8 cannot carry
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def unbound_id(text: str, what: str) -> str:
    """Returns `text` if it may reach Flowise as an id without mapping, else raises BadRequest.

    Such an id is safe in a path, a file path and a log line. `what` names the field in the message.
    """
    if not _UNBOUND_ID.fullmatch(text) or ".." in text:
        raise BadRequest(
            f"{what} must be 1 to {UNBOUND_ID_CHARACTERS} of the characters A-Z a-z 0-9 . _ + @ -"
            " without '..'."
        )
    return text


def bound_id(text: str, what: str) -> str:
    """Returns `text` if it may be mapped to an id of the caller, else raises BadRequest."""
    if not 1 <= len(text) <= BOUND_ID_CHARACTERS or _UNPRINTABLE.search(text):
        raise BadRequest(
            f"{what} must be 1 to {BOUND_ID_CHARACTERS} characters"
            " without control characters or half surrogate pairs."
        )
    return text


def is_feedback_id(text: str) -> bool:
    """Whether this could be the id of a feedback: a UUID in lower case."""
    return _UUID.fullmatch(text) is not None


def feedback_id(text: str) -> str:
    """Returns `text` if it could be the id of a feedback, else raises BadRequest."""
    if not is_feedback_id(text):
        raise BadRequest(
            "The path must end in the id of a feedback, as the answer to POST has it, like 2c5e8d0a-…."
        )
    return text


def node_name(text: str) -> str:
    """Returns `text` if Flowise could have a node of this name, else raises BadRequest."""
    if not _NODE_NAME.fullmatch(text):
        raise BadRequest("The path must end in the name of a node: 1 to 64 of the characters A-Z a-z 0-9 _.")
    return text


def file_name(text: str, what: str = "fileName") -> str:
    """Returns `text` if it is the bare name of a file, else raises BadRequest."""
    forbidden = "/" in text or "\\" in text or ".." in text or _UNPRINTABLE.search(text)
    if forbidden or not 1 <= len(text.encode()) <= FILE_NAME_BYTES:
        raise BadRequest(
            f"{what} must be a bare file name: 1 to {FILE_NAME_BYTES} bytes of UTF-8 "
            "without control characters, '/', '\\' or '..'."
        )
    return text


def check_texts(body: JsonObject, field: str, max_question: int, max_word: int) -> None:
    """Raises TooLarge if the texts in a member exceed a limit, in characters; names and numbers count too."""
    size = 0 if body.text.is_short else body.size(field)  # a short body is within any limit
    if size > max_question * _BYTES_PER_CHARACTER + _BYTES_OF_STRUCTURE:
        raise TooLarge(f"{field} holds {size} bytes. Its text may have {max_question} characters.")
    raw = body.raw(field) or b"null"
    text = text_of(raw) if raw.startswith(b'"') else None
    texts = [text] if text is not None else list(_texts(json.loads(raw, parse_int=str, parse_float=str)))
    length = sum(map(len, texts))
    if length > max_question:
        raise TooLarge(f"{field} holds {length} characters of text. At most {max_question} are allowed.")
    longest = max([max(map(len, text.split()), default=0) for text in texts], default=0)
    if longest > max_word:
        raise _long_word(field, longest, max_word)


def check_uploads(body: JsonObject, max_word: int) -> None:
    """Raises TooLarge if an upload holds a word that is too long where Flowise reads it as text.

    That is every name, and `data` of the type `file:full`: the text of a document, which may be as long as the body.
    All other data is base64.
    """
    for entry in body.objects("uploads", "an entry of uploads"):
        names = (
            ("name", "data") if text_of(entry.short("type", _TYPE_BYTES) or b"") == "file:full" else ("name",)
        )
        for name in names:
            if (entry.short(name, 1) or b"").startswith(b'"'):
                longest = longest_word(entry.parts(name))
                if longest > max_word:
                    raise _long_word("uploads", longest, max_word)


def longest_word(parts: Iterable[str]) -> int:
    """The most characters without white space between them, in a text that comes in parts."""
    longest = current = 0
    for part in filter(None, parts):
        words = part.split() or [""]
        begun = 0 if part[0].isspace() else current
        longest = max(longest, begun + len(words[0]), *map(len, words))
        current = 0 if part[-1].isspace() else len(words[-1]) + (begun if len(words) == 1 else 0)
    return longest


def _long_word(field: str, longest: int, max_word: int) -> TooLarge:
    return TooLarge(
        f"{field} has a word of {longest} characters. At most {max_word} without white space are allowed."
    )


def _texts(value: Any) -> Iterator[str]:
    """All strings of a value that is at most 64 levels deep."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _texts(item)
        case dict():
            for name, item in value.items():
                yield name
                yield from _texts(item)


_NOT_ALLOWED = f"{STORAGE_PREFIX}, which no client may send. Remove it."


def refuse_storage_references(body: JsonObject, *objects: tuple[str, JsonObject]) -> None:
    """Raises BadRequest, naming the member, if a key or string holds `FILE-STORAGE::`, escaped or not.

    Escapes are decoded at every level of quoting, since Flowise parses some strings as JSON again. `objects` are
    members of `body` to be searched first, each with the prefix of its members' names.
    """
    source = body.text.source
    if len(source) <= STEP and b"\\" not in source and _STORAGE_PREFIX not in source:  # as most are
        return
    if not _has_storage_prefix(source, 0, len(source)):
        return
    for path, found in (*objects, ("", body)):
        for name, member in found.members.items():
            if _has_storage_prefix(source, body.text.origin(member.start), body.text.origin(member.end)):
                raise BadRequest(f"{path}{shown(name)} holds {_NOT_ALLOWED}")
    raise BadRequest(f"The body holds {_NOT_ALLOWED}")


def holds_storage_reference(text: bytes) -> bool:
    """Whether a JSON text holds `FILE-STORAGE::`, escaped or not."""
    return _has_storage_prefix(text, 0, len(text))


def _has_storage_prefix(source: Buffer, start: int, end: int) -> bool:
    """Searches step by step; what may be the beginning of the prefix is searched again with the next step."""
    rest: Buffer = b""
    has_escapes = False
    for place in range(start, end, STEP):
        if place > start:
            step()
        text = rest + source[place : min(place + STEP, end)]
        if _STORAGE_PREFIX in text:
            return True
        has_escapes = has_escapes or b"\\" in text  # also one that the step before has ended in
        if has_escapes:
            text = _without_escapes(text)
            if _STORAGE_PREFIX in text:
                return True
        rest = text[-_LONGEST_WRITTEN:]
    return False


def _without_escapes(text: Buffer) -> Buffer:
    """The text without backslashes, and with the characters of the prefix in place of their escapes."""
    text = text.translate(None, b"\\")
    if b"u00" in text:
        for written, character in _PREFIX_ESCAPES:
            text = text.replace(written, character)
    return text
