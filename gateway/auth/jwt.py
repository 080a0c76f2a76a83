"""JSON Web Tokens of the configured issuers: who they say the caller is, once their signature is verified.

The steps of RFC 8725: the token's issuer picks the settings, the settings say which algorithms there are, the
algorithm and the key id pick a key that was published for it. What a header brings along is never used as a key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from gateway.auth import session_tokens as base64url
from gateway.auth.caller import LONGEST_NAME
from gateway.auth.jwks import KIND_OF, IssuerKeys, VerifyingKey
from gateway.config import JwtSettings
from gateway.errors import Unauthenticated

LONGEST_TOKEN = 8192  # characters
LONGEST_KEY_ID = 256  # characters
_EXTENSIONS = ("crit", "b64")  # RFC 7515 4.1.11, RFC 7797


@dataclass(frozen=True, slots=True, repr=False)
class UnverifiedToken:
    """What a token claims to be.

    Attributes:
        algorithm: `alg` of its header, any text.
        key_id: `kid` of its header.
        claims: the payload.
        signed: the bytes that the signature is for.
    """

    algorithm: str
    key_id: str | None
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


def take_apart(token: str) -> UnverifiedToken:
    """What a token claims.

    Raises:
        Unauthenticated: it is too long or malformed, or its header asks for what is not supported.
    """
    if len(token) > LONGEST_TOKEN:
        raise Unauthenticated(f"The token is too long: it has at most {LONGEST_TOKEN} characters.")
    if token.count(".") != 2:
        raise Unauthenticated("The token is malformed: a signed JSON Web Token has three parts.")
    header_text, claims_text, signature_text = token.split(".")
    header = _object(header_text, "header")
    claims = _object(claims_text, "payload")
    signature = _content(signature_text, "signature")
    if any(name in header for name in _EXTENSIONS):
        raise Unauthenticated("The token's header asks for an extension (crit, b64) that is not supported.")
    signed = token[: -len(signature_text) - 1].encode("ascii")
    return UnverifiedToken(_algorithm(header), _key_id(header), claims, signed, signature)


def _content(text: str, part: str) -> bytes:
    try:
        return base64url.decode(text)
    except ValueError:
        raise Unauthenticated(
            f"The token is malformed: its {part} is not base64url without padding."
        ) from None


def _object(text: str, part: str) -> dict[str, Any]:
    content = _content(text, part)
    try:
        value = _json(content.decode("utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Unauthenticated(
            f"The token is malformed: its {part} is not a JSON object in UTF-8 with every name once."
        )
    return value


def _algorithm(header: Mapping[str, Any]) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise Unauthenticated("The token is malformed: its header names no algorithm (alg).")
    return algorithm


def _key_id(header: Mapping[str, Any]) -> str | None:
    if "kid" not in header:
        return None
    key_id = header["kid"]
    if not isinstance(key_id, str) or len(key_id) > LONGEST_KEY_ID:
        raise Unauthenticated(
            f"The token is malformed: its key id (kid) is a text of at most {LONGEST_KEY_ID} characters."
        )
    return key_id


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name comes twice")
    return names


def _no_number(_: str) -> NoReturn:
    raise ValueError("NaN and infinity are no JSON")


_json = json.JSONDecoder(object_pairs_hook=_each_name_once, parse_constant=_no_number).decode


LATEST = (
    253_402_300_799  # the last second of the year 9999; what is later counts milliseconds, or is a mistake
)
# C0, DEL and C1 controls, and halves of surrogate pairs
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class JwtIdentity:
    """Who a verified token says the caller is.

    Attributes:
        issuer: `iss`, one of those configured.
        subject: the claim that names the caller.
        routes: names of the routes that may be used; None: all, because no claim is configured for them.
        not_before: when it begins to be valid, the leeway included.
        expires_at: when it ends to be valid, the leeway included.
        thumbprint: of the key that it is signed with.
    """

    issuer: str
    subject: str
    routes: frozenset[str] | None
    not_before: float
    expires_at: float
    thumbprint: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """The caller's full name, at most 256 characters."""
        return _full_name(self.issuer, self.subject)

    def check(self, now: float) -> None:
        """Look at its times, on each use.

        Raises:
            Unauthenticated: it has expired, or is not yet valid.
        """
        if now >= self.expires_at:
            raise Unauthenticated("The token has expired.")
        if now < self.not_before:
            raise Unauthenticated("The token is not valid yet.")


class ClaimRules:
    """What the claims of one issuer's tokens must say; `others` are the names of all issuers."""

    def __init__(self, settings: JwtSettings, others: Iterable[str]) -> None:
        self._settings = settings
        self._reserved = _taken_subjects(settings.issuer, others)

    def identity(self, claims: Mapping[str, Any], now: float) -> JwtIdentity:
        """Who the claims say the caller is.

        Raises:
            Unauthenticated: they are for another audience or time, or do not name a caller.
        """
        if not _is_for(self._settings.audience, claims.get("aud")):
            raise Unauthenticated("The token is not for this audience (aud).")
        not_before, expires_at = self._times(claims)
        subject = self._subject(claims)
        identity = JwtIdentity(self._settings.issuer, subject, self._routes(claims), not_before, expires_at)
        identity.check(now)
        return identity

    def _times(self, claims: Mapping[str, Any]) -> tuple[float, float]:
        """From when to when it is valid: `iat` in the future is as `nbf` in the future, and both may be missing."""
        if "exp" not in claims:
            raise Unauthenticated("The token has no expiry (exp).")
        begins = [_moment(claims, name) for name in ("nbf", "iat") if name in claims]
        leeway = self._settings.leeway
        return max(begins, default=0) - leeway, _moment(claims, "exp") + leeway

    def _subject(self, claims: Mapping[str, Any]) -> str:
        name, subject = self._settings.caller_claim, claims.get(self._settings.caller_claim)
        if not isinstance(subject, str) or not subject or _UNPRINTABLE.search(subject):
            raise Unauthenticated(
                f"The token does not name its caller: {name} is a text without control characters."
            )
        if len(_full_name(self._settings.issuer, subject)) > LONGEST_NAME:
            raise Unauthenticated(
                f"The token's caller ({name}) is too long: with its issuer it has at most {LONGEST_NAME} characters."
            )
        if subject.startswith(self._reserved):
            raise Unauthenticated(f"The token's caller ({name}) could be taken for that of another issuer.")
        return subject

    def _routes(self, claims: Mapping[str, Any]) -> frozenset[str] | None:
        """A list of texts or a text with blanks between; anything else is no route at all."""
        if not self._settings.routes_claim:
            return None
        routes = claims.get(self._settings.routes_claim)
        if isinstance(routes, str):
            routes = routes.split()
        if not isinstance(routes, list) or not all(isinstance(route, str) for route in routes):
            return frozenset()
        return frozenset(routes)


def _full_name(issuer: str, subject: str) -> str:
    return f"jwt:{issuer}:{subject}"


def _taken_subjects(issuer: str, others: Iterable[str]) -> tuple[str, ...]:
    """How a subject of this issuer would have to begin for its full name to be one of another issuer's.

    `https://a` with the subject `80:ann` and `https://a:80` with `ann` would be one caller.
    """
    start = issuer + ":"
    return tuple(other.removeprefix(start) + ":" for other in others if other.startswith(start))


def _is_for(audience: str, claimed: object) -> bool:
    if isinstance(claimed, str):
        return claimed == audience
    return isinstance(claimed, list) and all(isinstance(one, str) for one in claimed) and audience in claimed


def _moment(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise Unauthenticated(f"The token's {name} is not a number of seconds since 1970.")
    return value


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

    async def verify(self, token: str, now: float) -> JwtIdentity:
        """Who the caller is; `now` in seconds since the epoch. Waits only if the issuer must be asked for a key.

        Raises:
            Unauthenticated: what is wrong with the token, in one sentence that repeats nothing of it.
        """
        unverified = take_apart(token)
        return await self._issuer(unverified.claims.get("iss")).verify(unverified, now)

    def check(self, identity: JwtIdentity, now: float) -> None:
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

    async def verify(self, token: UnverifiedToken, now: float) -> JwtIdentity:
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
