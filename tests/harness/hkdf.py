"""HKDF-SHA256 (RFC 5869) of a library, which the gateway has written itself to load less."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def hkdf(secret, info):
    """32 bytes, with an empty salt."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)
