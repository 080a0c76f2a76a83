"""Base64url without padding (RFC 7515 2), and only in the one spelling that each content has (pure)."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode


def encode(content: bytes) -> str:
    """The text of it."""
    return urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """The content of it.

    Raises:
        ValueError: a letter outside of the alphabet, padding, a length that cannot be, or bits at the end that
            belong to no byte.
    """
    content = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if encode(content) != text:
        raise ValueError("not in its one spelling")
    return content
