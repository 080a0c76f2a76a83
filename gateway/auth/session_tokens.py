"""Session tokens: what a backend's key lets one browser user do for a while, signed and not stored (pure).

`fgs_<payload>.<signature>`: the payload is JSON in base64url, the signature an HMAC-SHA256 of everything before
the point. Both consist of letters that need no escape in a path (RFC 3986 2.3), and no token has two spellings.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.hmac import HMAC

from gateway.auth.conversation_ids import digest, keyed
from gateway.errors import BadRequest, Unauthenticated

_TO_BASE64 = bytes.maketrans(b"-_+/=", b"+/\0\0\0")  # what is not of this alphabet will not come back
_PADDING = (b"", b"", b"==", b"=")


def base64url_encode(content: bytes) -> str:
    """The text of it."""
    return urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def base64url_decode(text: str) -> bytes:
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


PREFIX = "fgs_"
LONGEST = 4096  # characters of a token
_FORM = re.compile(rf"({PREFIX}[A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{{43}})")


@dataclass(frozen=True, slots=True)
class SessionGrant:
    """What a session token grants.

    Attributes:
        key_id: the API key that minted it; it must still be valid.
        user: the browser user, as the backend names it.
        routes: names of the routes that may be used; None: all that the key may use.
        expires_at: seconds since the epoch; from then on it is refused.
        issued_at: seconds since the epoch.
    """

    key_id: str
    user: str
    routes: frozenset[str] | None
    expires_at: int
    issued_at: int

    def check(self, now: float) -> None:
        """Look at its expiry, on each use; `now` in seconds since the epoch.

        Raises:
            Unauthenticated: it has expired.
        """
        if now >= self.expires_at:
            raise Unauthenticated("The session token has expired.")


class _Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Short names: the token stands in every URL of the widget."""

    v: Literal[1]
    k: str
    u: str
    r: list[str] | None
    e: int
    i: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Payload).decode


class SessionTokens:
    """Issues and reads them, by one or more secrets: the first signs, all verify."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._keys = [keyed(secret, "session-token") for secret in secrets]

    def issue(self, grant: SessionGrant) -> str:
        """The token of a grant.

        Raises:
            BadRequest: it would be too long, or a text in it cannot stand in UTF-8.
        """
        routes = None if grant.routes is None else sorted(grant.routes)
        payload = _Payload(1, grant.key_id, grant.user, routes, grant.expires_at, grant.issued_at)
        try:
            signed = PREFIX + base64url_encode(_encode(payload))
        except UnicodeEncodeError:
            raise BadRequest("The caller must be text without half surrogate pairs.") from None
        token = f"{signed}.{_signature(self._keys[0], signed)}"
        if len(token) > LONGEST:
            raise BadRequest(
                f"The session token would be longer than {LONGEST} characters: name fewer routes, or none for"
                " all that the key may use."
            )
        return token

    def read(self, token: str) -> SessionGrant:
        """What a token grants; whether it has expired is for `SessionGrant.check` to say.

        Raises:
            Unauthenticated: it is too long, malformed, not signed by one of the secrets, or of another format.
        """
        if len(token) > LONGEST:
            raise Unauthenticated(f"The session token is too long: it has at most {LONGEST} characters.")
        parts = _FORM.fullmatch(token)
        if parts is None:
            raise Unauthenticated(
                f"The session token is malformed: it must look like {PREFIX}<payload>.<signature>."
            )
        signed, signature = parts.groups()
        if not any(hmac.compare_digest(_signature(key, signed), signature) for key in self._keys):
            raise Unauthenticated("The session token's signature is wrong.")
        return _grant(signed.removeprefix(PREFIX))


def _signature(key: HMAC, signed: str) -> str:
    return base64url_encode(digest(key, signed.encode("ascii")))


def _grant(payload: str) -> SessionGrant:
    """Ours, because the signature was right; but another release may have written it."""
    try:
        read = _decode(base64url_decode(payload))
    except ValueError:
        raise Unauthenticated("The session token has a format that this gateway does not know.") from None
    routes = None if read.r is None else frozenset(read.r)
    return SessionGrant(read.k, read.u, routes, read.e, read.i)
