"""Two questions about text on its way to Flowise: is it too long, does it point into Flowise's storage?

Counts and searches in time linear in the text; changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.errors import BadRequest, TooLarge
from gateway.flowise.raw_json import JsonObject, shown

UNBOUND_ID_CHARACTERS = 128
BOUND_ID_CHARACTERS = 256
FILE_NAME_BYTES = 255

_UNBOUND_ID = re.compile(rf"[A-Za-z0-9._+@-]{{1,{UNBOUND_ID_CHARACTERS}}}")
# C0, DEL and C1 controls, and halves of surrogate pairs, which no UTF-8 can carry
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def unbound_id(text: str, what: str) -> str:
    """Returns `text` if Flowise may see it as an id without mapping (DESIGN.md 4), else raises BadRequest.

    `what` names the field in the message. Such an id is safe in a path, a file path and a log line.
    """
    if not _UNBOUND_ID.fullmatch(text) or ".." in text:
        raise BadRequest(
            f"{what} must be 1 to {UNBOUND_ID_CHARACTERS} of the characters A-Z a-z 0-9 . _ + @ -"
            " without '..'"
        )
    return text


def bound_id(text: str, what: str) -> str:
    """Returns `text` if it may be mapped to an id of the caller's own, else raises BadRequest."""
    if not 1 <= len(text) <= BOUND_ID_CHARACTERS or _UNPRINTABLE.search(text):
        raise BadRequest(
            f"{what} must be 1 to {BOUND_ID_CHARACTERS} characters"
            " without control characters or half surrogate pairs"
        )
    return text


def file_name(text: str, what: str = "fileName") -> str:
    """Returns `text` if it is the bare name of a file (DESIGN.md 4), else raises BadRequest."""
    forbidden = "/" in text or "\\" in text or ".." in text or _UNPRINTABLE.search(text)
    if forbidden or not 1 <= len(text.encode()) <= FILE_NAME_BYTES:
        raise BadRequest(
            f"{what} must be a bare file name: 1 to {FILE_NAME_BYTES} bytes of UTF-8 "
            "without control characters, '/', '\\' or '..'"
        )
    return text


STORAGE_PREFIX = "FILE-STORAGE::"

_STORAGE_PREFIX = STORAGE_PREFIX.encode()
_PREFIX_ESCAPES = re.compile(
    rb"\\u00(?:" + b"|".join(b"(?i:%02x)" % letter for letter in sorted(set(_STORAGE_PREFIX))) + rb")"
)
# 12 bytes write one character as two escapes; the rest is room for structure
_BYTES_PER_CHARACTER = 12
_BYTES_OF_STRUCTURE = 64 * 1024


def check_texts(raw: bytes, field: str, max_question: int, max_word: int) -> None:
    """Raises TooLarge if the texts in a raw JSON value (names, numbers too) exceed a limit, in characters."""
    if len(raw) > max_question * _BYTES_PER_CHARACTER + _BYTES_OF_STRUCTURE:
        raise TooLarge(f"{field} holds {len(raw)} bytes; its text may have {max_question} characters")
    texts = list(_texts(json.loads(raw, parse_int=str, parse_float=str)))
    length = sum(map(len, texts))
    if length > max_question:
        raise TooLarge(f"{field} holds {length} characters of text; at most {max_question} are allowed")
    _check_words(texts, field, max_word)


def check_uploads(raw: bytes, max_word: int) -> None:
    """Raises TooLarge if a word of an upload is too long where Flowise takes it for text (PROTOCOL.md 7.9).

    That is every name, and what an entry of the type `file:full` brings along: the text of a document, which may be
    as long as the body. All else is base64.
    """
    entries = json.loads(raw, parse_int=str, parse_float=str)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            is_text = entry.get("type") == "file:full"
            texts = [entry.get("name"), entry.get("data") if is_text else None]
            _check_words((text for text in texts if isinstance(text, str)), "uploads", max_word)


def _check_words(texts: Iterable[str], field: str, max_word: int) -> None:
    longest = max((len(word) for text in texts for word in text.split()), default=0)
    if longest > max_word:
        raise TooLarge(
            f"{field} has a word of {longest} characters; at most {max_word} without white space are allowed"
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


def refuse_storage_references(body: JsonObject, *objects: tuple[str, JsonObject]) -> None:
    """Raises BadRequest, naming the member, if a key or string holds `FILE-STORAGE::`, escaped or not.

    With that prefix an override makes Flowise read a file of its own (CVE-2026-41268). Escapes count at every
    level of quoting, since Flowise parses some strings as JSON once more.
    """
    if not _has_storage_prefix(body.source):
        return
    for path, found in (*objects, ("", body)):
        for name, member in found.members.items():
            if _has_storage_prefix(bytes(member.source)):
                raise BadRequest(
                    f"{path}{shown(name)} holds FILE-STORAGE::, which no client may send; remove it"
                )
    raise BadRequest("the body holds FILE-STORAGE::, which no client may send; remove it")


def _has_storage_prefix(text: bytes) -> bool:
    if _STORAGE_PREFIX in text:
        return True
    if not _PREFIX_ESCAPES.search(text):
        return False
    return _STORAGE_PREFIX in _PREFIX_ESCAPES.sub(lambda escape: bytes([int(escape[0][4:], 16)]), text)
