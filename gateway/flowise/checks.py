"""Checks of what a client sends on to Flowise: ids, file names, lengths of texts, references to stored files (pure).

All of them take time linear in the text and change nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.errors import BadRequest, TooLarge
from gateway.flowise.raw_json import JsonObject, shown

STORAGE_PREFIX = "FILE-STORAGE::"  # makes Flowise read a file from its own storage (CVE-2026-41268)
UNBOUND_ID_CHARACTERS = 128
BOUND_ID_CHARACTERS = 256
FILE_NAME_BYTES = 255

_UNBOUND_ID = re.compile(rf"[A-Za-z0-9._+@-]{{1,{UNBOUND_ID_CHARACTERS}}}")
_STORAGE_PREFIX = STORAGE_PREFIX.encode()
_PREFIX_ESCAPES = re.compile(
    rb"\\u00(?:" + b"|".join(b"(?i:%02x)" % letter for letter in sorted(set(_STORAGE_PREFIX))) + rb")"
)
_BYTES_PER_CHARACTER = 12  # a character outside the BMP, written as two escapes
_BYTES_OF_STRUCTURE = 64 * 1024
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


def file_name(text: str, what: str = "fileName") -> str:
    """Returns `text` if it is the bare name of a file, else raises BadRequest."""
    forbidden = "/" in text or "\\" in text or ".." in text or _UNPRINTABLE.search(text)
    if forbidden or not 1 <= len(text.encode()) <= FILE_NAME_BYTES:
        raise BadRequest(
            f"{what} must be a bare file name: 1 to {FILE_NAME_BYTES} bytes of UTF-8 "
            "without control characters, '/', '\\' or '..'."
        )
    return text


def check_texts(raw: bytes, field: str, max_question: int, max_word: int) -> None:
    """Raises TooLarge if the texts in a raw JSON value exceed a limit, in characters; names and numbers count too."""
    if len(raw) > max_question * _BYTES_PER_CHARACTER + _BYTES_OF_STRUCTURE:
        raise TooLarge(f"{field} holds {len(raw)} bytes. Its text may have {max_question} characters.")
    texts = list(_texts(json.loads(raw, parse_int=str, parse_float=str)))
    length = sum(map(len, texts))
    if length > max_question:
        raise TooLarge(f"{field} holds {length} characters of text. At most {max_question} are allowed.")
    _check_words(texts, field, max_word)


def check_uploads(raw: bytes, max_word: int) -> None:
    """Raises TooLarge if an upload holds a word that is too long where Flowise reads it as text.

    That is every name, and `data` of the type `file:full`: the text of a document, which may be as long as the body.
    All other data is base64.
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
    if not _has_storage_prefix(body.source):
        return
    for path, found in (*objects, ("", body)):
        for name, member in found.members.items():
            if _has_storage_prefix(bytes(member.source)):
                raise BadRequest(f"{path}{shown(name)} holds {_NOT_ALLOWED}")
    raise BadRequest(f"The body holds {_NOT_ALLOWED}")


def _has_storage_prefix(text: bytes) -> bool:
    if _STORAGE_PREFIX in text:
        return True
    if not _PREFIX_ESCAPES.search(text):
        return False
    return _STORAGE_PREFIX in _PREFIX_ESCAPES.sub(lambda escape: bytes([int(escape[0][4:], 16)]), text)
