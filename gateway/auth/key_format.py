"""The format of an API key, its checksum, and its stored form (pure).

`fgw_<id 8>_<secret 32><checksum 6>`, in base62. The checksum is the CRC-32 of everything before it and only detects
typos. The secret has 190 random bits, of which only a hash is stored; a slow hash is not needed for that many.
"""

from __future__ import annotations

import hashlib
import re
import string
import zlib
from collections.abc import Callable

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH, SECRET_LENGTH, CHECKSUM_LENGTH = 8, 32, 6
PREFIX = "fgw_"
ID_PATTERN = f"[0-9A-Za-z]{{{ID_LENGTH}}}"
HASH_PATTERN = "sha256:[0-9a-f]{64}"

_BASE = len(ALPHABET)
_KEY = re.compile(
    f"({PREFIX}({ID_PATTERN})_[0-9A-Za-z]{{{SECRET_LENGTH}}})([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})"
)
_SECRET = re.compile(r"(fgw_)\w{9,}|(sha256:)[0-9a-fA-F]{9,}|[0-9a-fA-F]{32,}")


class KeyFormError(ValueError):
    """A text that is not a key of this gateway. The error repeats nothing of it."""


class MalformedKeyError(KeyFormError):
    """Wrong form, length or characters."""


class MistypedKeyError(KeyFormError):
    """The form of a key, but a wrong checksum."""


def make_key(choose: Callable[[str], str]) -> str:
    """A new key. `choose` picks one of the letters at random, like `secrets.choice`."""
    letters = [choose(ALPHABET) for _ in range(ID_LENGTH + SECRET_LENGTH)]
    body = f"{PREFIX}{''.join(letters[:ID_LENGTH])}_{''.join(letters[ID_LENGTH:])}"
    return body + _checksum(body)


def parse_key(text: str) -> str:
    """The id of a key.

    Raises:
        MalformedKeyError: the text is not a key.
        MistypedKeyError: the checksum is wrong.
    """
    parts = _KEY.fullmatch(text)
    if parts is None:
        length = len(PREFIX) + ID_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH
        raise MalformedKeyError(
            f"This is not an API key of this gateway: keys begin with {PREFIX} and have {length} characters."
        )
    if _checksum(parts[1]) != parts[3]:
        raise MistypedKeyError("This API key has a typo: its checksum is wrong. Copy the whole key again.")
    return parts[2]


def hash_of(key: str) -> str:
    """The stored form of a key: `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(key.encode('ascii')).hexdigest()}"


def redact_keys(text: str) -> str:
    """The text without anything that may be a key, a part of one, or a hash of one."""
    return _SECRET.sub(r"\1\2…", text)


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode("ascii"))
    letters = ""
    for _ in range(CHECKSUM_LENGTH):
        number, letter = divmod(number, _BASE)
        letters = ALPHABET[letter] + letters
    return letters
