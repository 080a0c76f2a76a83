"""JSON Web Tokens of the configured issuers: PyJWT verifies the signature, this file checks the claims.

As RFC 8725 advises, `iss` selects the issuer's settings, the settings list the algorithms, and `alg` and `kid` select
a published key. Keys and addresses of keys in a token's header (`jwk`, `jku`, `x5c`, `x5u`) are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from msgspec import field

from gateway.auth.caller import LONGEST_NAME, Claims
from gateway.auth.claims import claim_texts
from gateway.auth.jwks import IssuerKeys
from gateway.auth.key_set import KEY_TYPES, LONGEST_KEY_ID, PublishedKey
from gateway.auth.session_tokens import base64url_decode
from gateway.errors import AuthUnavailable, Unauthenticated
from gateway.records import DiscreetRecord

if TYPE_CHECKING:
    from jwt import PyJWS

LONGEST_TOKEN = 16384  # characters; `server.max_header` lets as much through by default
LATEST = 253_402_300_799  # the last second of the year 9999; a later time is in milliseconds, or a mistake
UNAVAILABLE = "The keys of the token's issuer are not available at the moment: try again later."
MOST_IN_HEADER, MOST_IN_CLAIMS = 64, 1000  # members and elements, counted as commas and opening brackets
TOO_MUCH = (
    f"The token is malformed: its header may hold {MOST_IN_HEADER} commas and opening brackets, its claims"
    f" {MOST_IN_CLAIMS}."
)
MALFORMED = (
    "The token is malformed: it must have three parts in base64url without padding, of which the first two are JSON"
    " objects in UTF-8 with unique names."
)
# C0, DEL and C1 controls, and halves of surrogate pairs
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class JwtIdentity(DiscreetRecord, frozen=True):
    """The caller that a verified token names.

    Attributes:
        issuer: `iss`, one of those configured.
        subject: the claim that names the caller.
        routes: names of the routes that may be used; None: all, because no claim is configured for them.
        not_before: start of its validity, minus the leeway, in seconds since the epoch.
        expires_at: end of its validity, plus the leeway, in seconds since the epoch.
        thumbprint: of the key that signed it; empty before the signature is verified.
        claims: all of them, as text.
    """

    issuer: str
    subject: str
    routes: frozenset[str] | None
    not_before: float
    expires_at: float
    thumbprint: str = ""
    claims: Claims = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The caller's full name, at most `LONGEST_NAME` characters."""
        return _full_name(self.issuer, self.subject)

    def check(self, now: float) -> None:
        """Check its times.

        Raises:
            Unauthenticated: it has expired, or is not yet valid.
        """
        if now >= self.expires_at:
            raise Unauthenticated("The token has expired.")
        if now < self.not_before:
            raise Unauthenticated("The token is not valid yet.")


class JsonWebTokens:
    """Verifies tokens. `monotonic` is the clock, in seconds, that limits how often keys are fetched."""

    def __init__(self, issuers: Sequence[IssuerKeys], monotonic: Callable[[], float]) -> None:
        names = [keys.settings.issuer for keys in issuers]
        self._issuers = {keys.settings.issuer: _Issuer(keys, names, monotonic) for keys in issuers}

    def tick(self, now: float) -> None:
        """Refresh old key sets; `now` in monotonic seconds."""
        for issuer in self._issuers.values():
            issuer.keys.tick(now)

    def names_issuer(self, text: str) -> bool:
        """Whether a text is a JWT, valid or not, of one of these issuers."""
        if not self._issuers or text.count(".") != 2:
            return False
        try:
            _, claims = _unverified(text)
        except Unauthenticated:
            return False
        issuer = claims.get("iss")
        return isinstance(issuer, str) and issuer in self._issuers

    async def verify(self, token: str, now: float) -> JwtIdentity:
        """The caller of a token; `now` in seconds since the epoch. Waits only for a fetch of the issuer's keys.

        Raises:
            Unauthenticated: what is wrong with the token, in one sentence that repeats nothing of it.
            AuthUnavailable: no key set of the issuer is known yet.
        """
        header, claims = _unverified(token)
        return await self._issuer(claims.get("iss")).verify(token, header, claims, now)

    def check(self, identity: JwtIdentity, now: float) -> None:
        """Check a verified token again, on each use; cheap. `now` in seconds since the epoch.

        Raises:
            Unauthenticated: it has expired, or its issuer has withdrawn the key.
        """
        identity.check(now)
        keys = self._issuer(identity.issuer).keys.current
        if keys is None or not keys.has(identity.thumbprint):
            raise Unauthenticated("The token's issuer has withdrawn the key that signed it.")

    def _issuer(self, name: object) -> _Issuer:
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise Unauthenticated("The token's issuer (iss) is not configured here.")
        return issuer


def _unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims. PyJWT by itself would also accept padding, UTF-16, NaN and names that occur twice."""
    if len(token) > LONGEST_TOKEN:
        raise Unauthenticated(f"The token is too long: the limit is {LONGEST_TOKEN} characters.")
    try:
        header, claims, _ = map(base64url_decode, token.split("."))
        if _structure_of(header) > MOST_IN_HEADER or _structure_of(claims) > MOST_IN_CLAIMS:
            raise Unauthenticated(TOO_MUCH)
        return _json_object(header), _json_object(claims)
    except (ValueError, RecursionError):
        raise Unauthenticated(MALFORMED) from None


def _structure_of(content: bytes) -> int:
    """At least the number of its members and elements. Each costs about 1 µs, before the signature is verified."""
    return content.count(b",") + content.count(b"[") + content.count(b"{")


def _json_object(content: bytes) -> dict[str, Any]:
    value = _decode_json(content.decode("utf-8"))
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - as the decoder refuses what is not JSON
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name occurs twice")
    return names


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_decode_json = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant).decode


class _Issuer:
    """One issuer: its settings and keys. `issuers` are the names of all."""

    def __init__(self, keys: IssuerKeys, issuers: Iterable[str], monotonic: Callable[[], float]) -> None:
        self.keys = keys
        self._settings = keys.settings
        self._algorithms = [name for name in keys.settings.algorithms if name in KEY_TYPES]
        self._reserved = _reserved_prefixes(keys.settings.issuer, issuers)
        self._monotonic = monotonic

    async def verify(
        self, token: str, header: Mapping[str, Any], claims: Mapping[str, Any], now: float
    ) -> JwtIdentity:
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self._algorithms:
            raise Unauthenticated("The token's algorithm (alg) is not allowed for its issuer.")
        if not isinstance(header.get("kid", ""), str) or len(key_id or "") > LONGEST_KEY_ID:
            raise Unauthenticated(
                f"The token is malformed: its key id (kid) must be a string of at most {LONGEST_KEY_ID} characters."
            )
        if "crit" in header or "b64" in header:  # RFC 7515 4.1.11, RFC 7797
            raise Unauthenticated("The token requires an extension (crit, b64) that is not supported.")
        known = self.keys.current
        key = None if known is None else known.key(key_id, algorithm)
        if key is None:
            self._identity(claims, now)  # a token that is refused anyway must not trigger a fetch
            key = await self._fetched_key(key_id, algorithm)
        _verify_signature(token, key, algorithm)
        return self._identity(claims, now, key.thumbprint)

    async def _fetched_key(self, key_id: str | None, algorithm: str) -> PublishedKey:
        keys = await self.keys.refetched(self._monotonic())
        if keys is None:
            retry_after = self.keys.retry_after(self._monotonic())
            raise AuthUnavailable(UNAVAILABLE, headers={"Retry-After": str(retry_after)})
        key = keys.key(key_id, algorithm)
        if key is None:
            raise Unauthenticated("The token is signed with a key (kid) that its issuer does not publish.")
        return key

    def _identity(self, claims: Mapping[str, Any], now: float, thumbprint: str = "") -> JwtIdentity:
        if not _is_for(self._settings.audience, claims.get("aud")):
            raise Unauthenticated("The token is not for this audience (aud).")
        if "exp" not in claims:
            raise Unauthenticated("The token has no expiry (exp).")
        leeway = self._settings.leeway
        begins = [_time(claims, name) for name in ("nbf", "iat") if name in claims]
        identity = JwtIdentity(
            self._settings.issuer,
            self._subject(claims),
            self._routes(claims),
            max(begins, default=0) - leeway,
            _time(claims, "exp") + leeway,
            thumbprint,
            claim_texts(claims),
        )
        identity.check(now)
        return identity

    def _subject(self, claims: Mapping[str, Any]) -> str:
        name, subject = self._settings.caller_claim, claims.get(self._settings.caller_claim)
        if not isinstance(subject, str) or not subject or _UNPRINTABLE.search(subject):
            raise Unauthenticated(
                f"The token does not name its caller: {name} must be text without control characters."
            )
        if len(_full_name(self._settings.issuer, subject)) > LONGEST_NAME:
            raise Unauthenticated(
                f"The token's caller ({name}) is too long: the limit is {LONGEST_NAME} characters with its issuer."
            )
        if subject.startswith(self._reserved):
            raise Unauthenticated(f"The token's caller ({name}) could be mistaken for one of another issuer.")
        return subject

    def _routes(self, claims: Mapping[str, Any]) -> frozenset[str] | None:
        """A list of strings, or a string separated by blanks; anything else allows no route."""
        if not self._settings.routes_claim:
            return None
        routes = claims.get(self._settings.routes_claim)
        if isinstance(routes, str):
            routes = routes.split()
        if not isinstance(routes, list) or not all(isinstance(route, str) for route in routes):
            return frozenset()
        return frozenset(routes)


def _verify_signature(token: str, key: PublishedKey, algorithm: str) -> None:
    signatures, wrong = _signatures()
    try:
        signatures.decode(token, key.key, [algorithm])
    except wrong:
        raise Unauthenticated("The token's signature is wrong.") from None


@cache
def _signatures() -> tuple[PyJWS, type[Exception]]:
    """Of PyJWT, which the first key has loaded. Not `jwt.decode`: it compares times once, and by the system's clock."""
    import jwt  # noqa: PLC0415 - large

    return jwt.PyJWS(options={"verify_signature": True, "enforce_minimum_key_length": True}), jwt.PyJWTError


def _is_for(audience: str, claimed: object) -> bool:
    """`aud` is a string or a list of strings (RFC 7519 4.1.3)."""
    if isinstance(claimed, str):
        return claimed == audience
    return isinstance(claimed, list) and all(isinstance(one, str) for one in claimed) and audience in claimed


def _full_name(issuer: str, subject: str) -> str:
    return f"jwt:{issuer}:{subject}"


def _reserved_prefixes(issuer: str, issuers: Iterable[str]) -> tuple[str, ...]:
    """Beginnings of a subject with which the full name could be that of another issuer's caller.

    `https://a` with the subject `80:ann` and `https://a:80` with `ann` would be the same caller.
    """
    start = issuer + ":"
    return tuple(other.removeprefix(start) + ":" for other in issuers if other.startswith(start))


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise Unauthenticated(f"The token's {name} must be a number of seconds since 1970.")
    return value
