"""What an id or a file name from a client may look like, before it stands in a target, a body or a lock.

Checks text and returns it unchanged; it decodes nothing and maps nothing.
"""

from __future__ import annotations

import re

from gateway.errors import BadRequest

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
