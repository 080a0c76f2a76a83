"""How an API key looks, how a typo in one is told without a look-up, and how one is stored (pure).

`fgw_<id 8>_<secret 32><checksum 6>`, base62 throughout. The checksum is the CRC-32 of everything before it: it
finds typos and protects nothing. What protects is the secret, 190 bits of it, of which only a hash is kept; so
much chance needs no slow hash.
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
_TELLING = re.compile(r"(fgw_)\w{9,}|(sha256:)[0-9a-fA-F]{9,}|[0-9a-fA-F]{32,}")


class KeyFormError(ValueError):
    """A text that cannot be a key of ours, whichever keys there are. The sentence holds nothing of the text."""


class MalformedKeyError(KeyFormError):
    """Not the form, the length or the letters of a key."""


class MistypedKeyError(KeyFormError):
    """The form of a key, and a checksum that does not fit."""


def make_key(choose: Callable[[str], str]) -> str:
    """A new key. `choose` gives one letter of those it is handed, each as likely, like `secrets.choice`."""
    letters = [choose(ALPHABET) for _ in range(ID_LENGTH + SECRET_LENGTH)]
    body = f"{PREFIX}{''.join(letters[:ID_LENGTH])}_{''.join(letters[ID_LENGTH:])}"
    return body + _checksum(body)


def parse_key(text: str) -> str:
    """The id of a key.

    Raises:
        MalformedKeyError: it is none.
        MistypedKeyError: it would be one, but for a typo.
    """
    parts = _KEY.fullmatch(text)
    if parts is None:
        length = len(PREFIX) + ID_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH
        raise MalformedKeyError(
            f"This is no API key of this gateway: one begins with {PREFIX} and has {length} characters."
        )
    if _checksum(parts[1]) != parts[3]:
        raise MistypedKeyError("This API key has a typo: its checksum does not fit. Copy it whole once more.")
    return parts[2]


def hash_of(key: str) -> str:
    """The stored form of a key: `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(key.encode('ascii')).hexdigest()}"


def redact_keys(text: str) -> str:
    """The text with everything taken out that may be a key, a part of one, or a hash of one."""
    return _TELLING.sub(r"\1\2…", text)


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode("ascii"))
    letters = ""
    for _ in range(CHECKSUM_LENGTH):
        number, letter = divmod(number, _BASE)
        letters = ALPHABET[letter] + letters
    return letters
