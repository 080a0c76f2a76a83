"""HKDF-SHA256 (RFC 5869), written independently of the library that the gateway uses."""

from __future__ import annotations

import hashlib
import hmac


def hkdf(secret, info):
    """32 bytes: one block, with an empty salt."""
    extracted = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()
