"""Base64url without padding (RFC 7515 2), and only in the one spelling that each content has (pure)."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from binascii import a2b_base64, b2a_base64

_TO_BASE64 = bytes.maketrans(b"-_+/=", b"+/\0\0\0")  # what is not of this alphabet will not come back
_PADDING = (b"", b"", b"==", b"=")


def encode(content: bytes) -> str:
    """The text of it."""
    return urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """The content of it.

    Raises:
        ValueError: a letter outside of the alphabet, padding, a length that cannot be, or bits at the end that
            belong to no byte.
    """
    base64 = text.encode("ascii").translate(_TO_BASE64) + _PADDING[len(text) % 4]
    content = a2b_base64(base64)
    if b2a_base64(content, newline=False) != base64:
        raise ValueError("not in its one spelling")
    return content
