"""JSON Web Tokens of the configured issuers: who they say the caller is, once their signature is verified.

The steps of RFC 8725: the token's issuer picks the settings, the settings say which algorithms there are, the
algorithm and the key id pick a key that was published for it. What a header brings along is never used as a key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.auth.jwks import IssuerKeys
from gateway.errors import Unauthenticated
from gateway.identity.jwks_keys import KIND_OF, VerifyingKey
from gateway.identity.jwt_claims import ClaimRules, Identity
from gateway.identity.jwt_text import UnverifiedToken, take_apart

UNAVAILABLE = "The keys of the token's issuer cannot be had at the moment: ask again later."


class JsonWebTokens:
    """Verifies them. `monotonic` is the clock, in seconds, by which an issuer is not asked too often."""

    def __init__(self, issuers: Sequence[IssuerKeys], monotonic: Callable[[], float]) -> None:
        names = [keys.settings.issuer for keys in issuers]
        self._issuers = {
            keys.settings.issuer: _Issuer(keys, ClaimRules(keys.settings, names), monotonic)
            for keys in issuers
        }

    def tick(self, now: float) -> None:
        """Have old key sets fetched; `now` in monotonic seconds."""
        for issuer in self._issuers.values():
            issuer.keys.tick(now)

    async def verify(self, token: str, now: float) -> Identity:
        """Who the caller is; `now` in seconds since the epoch. Waits only if the issuer must be asked for a key.

        Raises:
            Unauthenticated: what is wrong with the token, in one sentence that repeats nothing of it.
        """
        unverified = take_apart(token)
        return await self._issuer(unverified.claims.get("iss")).verify(unverified, now)

    def check(self, identity: Identity, now: float) -> None:
        """Look again at what was verified before; cheap, for each use. `now` in seconds since the epoch.

        Raises:
            Unauthenticated: it has expired, or its issuer has withdrawn the key.
        """
        identity.check(now)
        keys = self._issuer(identity.issuer).keys.current
        if keys is None or not keys.has(identity.thumbprint):
            raise Unauthenticated("The token's issuer has withdrawn the key that it is signed with.")

    def _issuer(self, name: object) -> _Issuer:
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise Unauthenticated("The token's issuer (iss) is not configured here.")
        return issuer


class _Issuer:
    """One issuer: its settings, rules and keys."""

    def __init__(self, keys: IssuerKeys, rules: ClaimRules, monotonic: Callable[[], float]) -> None:
        self.keys = keys
        self._rules = rules
        self._monotonic = monotonic
        self._algorithms = frozenset(keys.settings.algorithms) & KIND_OF.keys()

    async def verify(self, token: UnverifiedToken, now: float) -> Identity:
        if token.algorithm not in self._algorithms:
            raise Unauthenticated("The token's algorithm (alg) is not one that is allowed for its issuer.")
        key = self._known(token)
        if key is None:
            self._rules.identity(token.claims, now)  # one that has expired makes nobody ask for keys
            key = await self._asked_for(token)
        if not key.verifies(token.signed, token.signature):
            raise Unauthenticated("The token's signature is wrong.")
        return replace(self._rules.identity(token.claims, now), thumbprint=key.thumbprint)

    def _known(self, token: UnverifiedToken) -> VerifyingKey | None:
        keys = self.keys.current
        return None if keys is None else keys.key(token.key_id, token.algorithm)

    async def _asked_for(self, token: UnverifiedToken) -> VerifyingKey:
        keys = await self.keys.newer(self._monotonic())
        if keys is None:
            raise Unauthenticated(UNAVAILABLE)
        key = keys.key(token.key_id, token.algorithm)
        if key is None:
            raise Unauthenticated("The token is signed with a key (kid) that its issuer does not publish.")
        return key
