"""Session tokens: signed, not stored; they let one browser user of a backend use its API key for a while (pure).

`fgs_<payload>.<signature>`: the payload is JSON in base64url, the signature an HMAC-SHA256 of everything before
the dot. No character needs an escape in a path (RFC 3986 2.3), and each token has exactly one spelling.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import field

from gateway.auth.conversation_ids import derived_key, digest
from gateway.errors import BadRequest, Unauthenticated
from gateway.records import DiscreetRecord

_TO_BASE64 = bytes.maketrans(
    b"-_+/=", b"+/\0\0\0"
)  # characters of other alphabets do not survive the round trip
_PADDING = (b"", b"", b"==", b"=")


def base64url_encode(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def base64url_decode(text: str) -> bytes:
    """Decode strictly.

    Raises:
        ValueError: there is padding, a character outside the alphabet, an impossible length, or a last character with
            unused bits set.
    """
    base64 = text.encode("ascii").translate(_TO_BASE64) + _PADDING[len(text) % 4]
    content = a2b_base64(base64)
    if b2a_base64(content, newline=False) != base64:
        raise ValueError("not canonical base64url")
    return content


PREFIX = "fgs_"
LONGEST = 4096  # characters of a token
CLOCK_SKEW = 300.0  # seconds by which the clock of the gateway that issued a token may be ahead
_FORM = re.compile(rf"({PREFIX}[A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{{43}})")


class SessionGrant(DiscreetRecord, frozen=True):
    """The content of a session token.

    Attributes:
        key_id: the API key that issued it; it must still be valid.
        user: the backend's name for the browser user.
        routes: names of the routes that may be used; None: all that the key may use.
        expires_at: seconds since the epoch.
        issued_at: seconds since the epoch.
        claims: what the backend says about the user; everyone with the token can read them, none can change them.
    """

    key_id: str
    user: str
    routes: frozenset[str] | None
    expires_at: int
    issued_at: int
    claims: Mapping[str, str] = field(default_factory=dict)

    def check(self, now: float) -> None:
        """Check its times, on each use; `now` in seconds since the epoch.

        Raises:
            Unauthenticated: it has expired, or comes from a clock that was ahead, and would live that much longer.
        """
        if self.issued_at > now + CLOCK_SKEW:
            raise Unauthenticated("The session token is not valid yet.")
        if now >= self.expires_at:
            raise Unauthenticated("The session token has expired.")


class _Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Short names, because the token is part of every URL of the widget. Without claims, as releases before them."""

    v: Literal[1]
    k: str
    u: str
    r: list[str] | None
    e: int
    i: int
    c: dict[str, str] = {}


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Payload).decode


class SessionTokens:
    """Issues and reads session tokens. The first secret signs, all verify."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._keys = [derived_key(secret, "session-token") for secret in secrets]

    def issue(self, grant: SessionGrant) -> str:
        """The token of a grant.

        Raises:
            BadRequest: it would be too long, or a text in it cannot be encoded in UTF-8.
        """
        routes = None if grant.routes is None else sorted(grant.routes)
        claims = dict(grant.claims)
        payload = _Payload(1, grant.key_id, grant.user, routes, grant.expires_at, grant.issued_at, claims)
        try:
            signed = PREFIX + base64url_encode(_encode(payload))
        except UnicodeEncodeError:
            raise BadRequest("The caller must be text without unpaired surrogates.") from None
        token = f"{signed}.{_signature(self._keys[0], signed)}"
        if len(token) > LONGEST:
            raise BadRequest(
                f"The session token would be longer than {LONGEST} characters: name fewer routes, or none, which allows"
                " all routes of the key; and send fewer or shorter claims."
            )
        return token

    def read(self, token: str) -> SessionGrant:
        """The grant of a token, whose expiry is not checked here.

        Raises:
            Unauthenticated: it is too long, malformed, not signed by one of the secrets, or of another format.
        """
        if len(token) > LONGEST:
            raise Unauthenticated(f"The session token is too long: the limit is {LONGEST} characters.")
        parts = _FORM.fullmatch(token)
        if parts is None:
            raise Unauthenticated(
                f"The session token is malformed: it must have the form {PREFIX}<payload>.<signature>."
            )
        signed, signature = parts.groups()
        if not any(hmac.compare_digest(_signature(key, signed), signature) for key in self._keys):
            raise Unauthenticated("The session token's signature is wrong.")
        return _grant(signed.removeprefix(PREFIX))


def _signature(key: bytes, signed: str) -> str:
    return base64url_encode(digest(key, signed.encode("ascii")))


def _grant(payload: str) -> SessionGrant:
    """The signature was right, but another release may have issued it."""
    try:
        read = _decode(base64url_decode(payload))
    except ValueError:
        raise Unauthenticated("The session token has a format that this release does not support.") from None
    routes = None if read.r is None else frozenset(read.r)
    return SessionGrant(read.k, read.u, routes, read.e, read.i, read.c)
