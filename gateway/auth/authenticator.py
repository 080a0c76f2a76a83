"""From the text of a credential to its caller: told apart by form, never by trial; remembered, never trusted for long.

What was verified once is kept by a hash of its text, in a bounded table, and looked at again on each use: the clock,
the API key behind a session, the issuer's key behind a JWT.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gateway.auth import key_format, session_tokens
from gateway.auth.caller import Caller, Method, session_name
from gateway.auth.jwt import JsonWebTokens, JwtIdentity
from gateway.auth.keyring import Keyring
from gateway.auth.keys_model import ApiKey
from gateway.auth.session_tokens import SessionGrant, SessionTokens
from gateway.errors import Unauthenticated

MOST_REMEMBERED = 10_000
_KEY_HAS_ENDED = "The session token has ended with its API key, which was revoked or has expired."


def kind_of(credential: str) -> Method:
    """What a credential claims to be, by its form alone."""
    if credential.startswith(key_format.PREFIX):
        return "api_key"
    return "session" if credential.startswith(session_tokens.PREFIX) else "jwt"


@dataclass(frozen=True, slots=True)
class _Session:
    """A verified session token, with the key as it was when its caller was made."""

    grant: SessionGrant
    key: ApiKey
    caller: Caller


@dataclass(frozen=True, slots=True)
class _Token:
    """A verified JWT."""

    identity: JwtIdentity
    caller: Caller


class Authenticator:
    """Knows every source of credentials. `now`: seconds since the epoch."""

    def __init__(
        self, keyring: Keyring, tokens: SessionTokens, jwts: JsonWebTokens, now: Callable[[], float]
    ) -> None:
        self._keyring = keyring
        self._tokens = tokens
        self._jwts = jwts
        self._now = now
        self._remembered: OrderedDict[bytes, _Session | _Token] = OrderedDict()

    def __len__(self) -> int:
        """How many credentials are remembered."""
        return len(self._remembered)

    def at_once(self, credential: str) -> Caller | None:
        """The caller, where nobody has to be asked; None: `asked` will tell.

        Raises:
            Unauthenticated: it is not valid, or no longer; the sentence does not say whether a key exists.
        """
        kind = kind_of(credential)
        if kind == "api_key":
            return _of_key(self._keyring.check(credential, self._now()))
        digest = hashlib.sha256(credential.encode()).digest()
        known = self._remembered.get(digest)
        if known is None:
            return self._of_session(digest, self._tokens.read(credential)) if kind == "session" else None
        self._remembered.move_to_end(digest)
        if isinstance(known, _Session):
            return self._of_session(digest, known.grant, known)
        self._jwts.check(known.identity, self._now())
        return known.caller

    async def asked(self, credential: str) -> Caller:
        """The caller of a JWT that is seen for the first time; its issuer may have to be asked for its keys.

        Raises:
            Unauthenticated: it is not valid.
        """
        identity = await self._jwts.verify(credential, self._now())
        caller = Caller(identity.name, "jwt", identity.subject, identity.routes)
        self._remember(hashlib.sha256(credential.encode()).digest(), _Token(identity, caller))
        return caller

    def _of_session(self, digest: bytes, grant: SessionGrant, known: _Session | None = None) -> Caller:
        now = self._now()
        grant.check(now)
        key = self._keyring.get(grant.key_id, now)
        if key is None:
            raise Unauthenticated(_KEY_HAS_ENDED)
        if known is None or known.key is not key:
            known = _Session(grant, key, _of_grant(grant, key))
            self._remember(digest, known)
        return known.caller

    def _remember(self, digest: bytes, known: _Session | _Token) -> None:
        self._remembered[digest] = known
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)


def _of_key(key: ApiKey) -> Caller:
    return Caller(f"key:{key.name}", "api_key", key.name, key.allowed_routes, key.id, key.name, key.limits)


def _of_grant(grant: SessionGrant, key: ApiKey) -> Caller:
    """A session can only narrow what its key may do now."""
    routes, allowed = grant.routes, key.allowed_routes
    if allowed is not None:
        routes = allowed if routes is None else routes & allowed
    name = session_name(key.name, grant.user)
    return Caller(name, "session", grant.user, routes, key.id, key.name, key.limits)
