"""Turns a credential into its caller. The form of a credential decides its kind; no kind is tried after another.

Verified tokens are cached by a hash of their text, in a bounded table. Each use checks again what can change: the time,
the API key of a session, the published key of a JWT.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

from gateway.auth import key_format, session_tokens
from gateway.auth.caller import Caller, Method, session_name
from gateway.auth.jwt import JsonWebTokens, JwtIdentity
from gateway.auth.keyring import Keyring
from gateway.auth.keys_model import ApiKey
from gateway.auth.session_tokens import SessionGrant, SessionTokens
from gateway.errors import Unauthenticated

MOST_CACHED = 10_000
_KEY_HAS_ENDED = "The session token is no longer valid: its API key was revoked or has expired."


def kind_of(credential: str) -> Method:
    """The kind that the form of a credential claims."""
    if credential.startswith(key_format.PREFIX):
        return "api_key"
    return "session" if credential.startswith(session_tokens.PREFIX) else "jwt"


class _Session(Struct, frozen=True):
    """A verified session token, with the key from which its caller was derived."""

    grant: SessionGrant
    key: ApiKey
    caller: Caller


class _Token(Struct, frozen=True):
    """A verified JWT and its caller."""

    identity: JwtIdentity
    caller: Caller


class Authenticator:
    """Authenticates all kinds of credentials. `now`: seconds since the epoch."""

    def __init__(
        self, keyring: Keyring, tokens: SessionTokens, jwts: JsonWebTokens, now: Callable[[], float]
    ) -> None:
        self._keyring = keyring
        self._tokens = tokens
        self._jwts = jwts
        self._now = now
        self._cache: OrderedDict[bytes, _Session | _Token] = OrderedDict()

    def __len__(self) -> int:
        """The number of cached credentials."""
        return len(self._cache)

    def is_of_an_issuer(self, text: str) -> bool:
        """Whether this is a JWT that names a configured issuer, valid or not."""
        return self._jwts.names_issuer(text)

    def authenticate_cached(self, credential: str) -> Caller | None:
        """The caller, without waiting; None for a JWT that is not cached, which needs `authenticate`.

        Raises:
            Unauthenticated: it is not valid; the error does not reveal whether a key exists.
        """
        kind = kind_of(credential)
        if kind == "api_key":
            return self._keyring.caller_of(self._keyring.check(credential, self._now()))
        digest = hashlib.sha256(credential.encode()).digest()
        known = self._cache.get(digest)
        if known is None:
            return self._of_session(digest, self._tokens.read(credential)) if kind == "session" else None
        self._cache.move_to_end(digest)
        if isinstance(known, _Session):
            return self._of_session(digest, known.grant, known)
        self._jwts.check(known.identity, self._now())
        return known.caller

    async def authenticate(self, credential: str) -> Caller:
        """The caller of a JWT; may wait for the keys of its issuer.

        Raises:
            Unauthenticated: it is not valid.
            AuthUnavailable: the keys of its issuer are not known yet.
        """
        identity = await self._jwts.verify(credential, self._now())
        caller = Caller(identity.name, "jwt", identity.subject, identity.routes, claims=identity.claims)
        self._store(hashlib.sha256(credential.encode()).digest(), _Token(identity, caller))
        return caller

    def _of_session(self, digest: bytes, grant: SessionGrant, known: _Session | None = None) -> Caller:
        now = self._now()
        grant.check(now)
        key = self._keyring.get(grant.key_id, now)
        if key is None:
            raise Unauthenticated(_KEY_HAS_ENDED)
        if known is None or known.key is not key:
            known = _Session(grant, key, _of_grant(grant, key))
            self._store(digest, known)
        return known.caller

    def _store(self, digest: bytes, known: _Session | _Token) -> None:
        self._cache[digest] = known
        if len(self._cache) > MOST_CACHED:
            self._cache.popitem(last=False)


def _of_grant(grant: SessionGrant, key: ApiKey) -> Caller:
    """A session never allows more than its key does now."""
    routes, allowed = grant.routes, key.allowed_routes
    if allowed is not None:
        routes = allowed if routes is None else routes & allowed
    name = session_name(key.name, grant.user)
    return Caller(name, "session", grant.user, routes, key.id, key.name, key.limits, grant.claims)
