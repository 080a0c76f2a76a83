"""The chat ids that Flowise sees: derived from caller and client id, so that only that caller can reach them.

An id is a UUIDv4 in lower case. Its 122 free bits are 74 bits of an HMAC over caller and client id, then 48 bits of an
HMAC over the caller and those 74, which form the last group:

    iiiiiiii-iiii-4iii-viii-mmmmmmmmmmmm     v: 10 in its two upper bits, then two bits of i
"""

from __future__ import annotations

import hmac
import re
from os import urandom
from typing import Literal

_NO_SALT = bytes(32)  # RFC 5869 2.2

Purpose = Literal["session-token", "conversation-id", "conversation-mac"]


def derived_key(secret: bytes, purpose: Purpose) -> bytes:
    """The key of 32 bytes for a purpose, from one of `auth.secret`: HKDF-SHA256 without salt (RFC 5869).

    Not that of `cryptography`, whose own OpenSSL takes 6 MB of memory: a key of one block is two HMACs.
    """
    info = f"flowise-gateway {purpose}".encode()
    return digest(digest(_NO_SALT, secret), info + b"\x01")


def digest(key: bytes, message: bytes) -> bytes:
    """The HMAC-SHA256 of a message."""
    return hmac.digest(key, message, "sha256")


_ID_BYTES, _SPARE_BITS = 10, 6  # hold 74 bits
_MAC_BYTES = 6
_LENGTH_BYTES = 4
_FORM = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-4([0-9a-f]{3})-([89ab][0-9a-f]{3})-([0-9a-f]{12})")


class ConversationIds:
    """Maps chat ids of clients to those of Flowise, with one secret: the last of those configured.

    Stateless: the same caller, id and secret give the same conversation on every server and after every restart.
    """

    def __init__(self, secret: bytes) -> None:
        # keyed once: a copy with a message takes half as long as a key with a message
        self._for_ids = hmac.new(derived_key(secret, "conversation-id"), digestmod="sha256")
        self._for_macs = hmac.new(derived_key(secret, "conversation-mac"), digestmod="sha256")

    def mapped(self, caller: str, raw: str) -> str:
        """The id that Flowise sees for the client id `raw` of a caller, given by its full name.

        An id that was mapped for the same caller is returned unchanged. Any other text, also the id of another caller,
        is mapped to a conversation of this caller.
        """
        owner = _field(caller.encode("utf-8", "surrogatepass"))
        if self._is_own(owner, raw):
            return raw
        return self._id(owner, _of(self._for_ids, _ID + owner + _field(raw.encode("utf-8", "surrogatepass"))))

    def new(self, caller: str) -> str:
        """The id of a new conversation of a caller, which no client has named."""
        return self._id(_field(caller.encode("utf-8", "surrogatepass")), urandom(_ID_BYTES))

    def _id(self, owner: bytes, source: bytes) -> str:
        bits = int.from_bytes(source[:_ID_BYTES], "big") >> _SPARE_BITS
        head = f"{bits >> 42:08x}-{bits >> 26 & 0xFFFF:04x}-4{bits >> 14 & 0xFFF:03x}"
        return f"{head}-{0x8000 | bits & 0x3FFF:04x}-{self._mac(owner, bits)}"

    def _is_own(self, owner: bytes, raw: str) -> bool:
        groups = _FORM.fullmatch(raw)
        if groups is None:
            return False
        first, second, third, fourth, mac = groups.groups()
        bits = int(first + second + third, 16) << 14 | int(fourth, 16) & 0x3FFF
        return hmac.compare_digest(self._mac(owner, bits), mac)

    def _mac(self, owner: bytes, bits: int) -> str:
        field = _field(bits.to_bytes(_ID_BYTES, "big"))
        return _of(self._for_macs, _MAC + owner + field)[:_MAC_BYTES].hex()


def _of(keyed: hmac.HMAC, message: bytes) -> bytes:
    copy = keyed.copy()
    copy.update(message)
    return copy.digest()


def _field(content: bytes) -> bytes:
    """Prefixed with its length, so that different lists of fields never give the same message."""
    return len(content).to_bytes(_LENGTH_BYTES, "big") + content


_ID, _MAC = _field(b"id"), _field(b"mac")
