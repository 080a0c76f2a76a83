"""Who a JSON Web Token says the caller is, and whether it is for us and for now; the signature is not looked at here.

RFC 7519 4.1. Moments are seconds since the epoch; the present one arrives as an argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.auth.caller import LONGEST_NAME
from gateway.config import JwtSettings
from gateway.errors import Unauthenticated

LATEST = (
    253_402_300_799  # the last second of the year 9999; what is later counts milliseconds, or is a mistake
)
# C0, DEL and C1 controls, and halves of surrogate pairs
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Identity:
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

    def identity(self, claims: Mapping[str, Any], now: float) -> Identity:
        """Who the claims say the caller is.

        Raises:
            Unauthenticated: they are for another audience or time, or do not name a caller.
        """
        if not _is_for(self._settings.audience, claims.get("aud")):
            raise Unauthenticated("The token is not for this audience (aud).")
        not_before, expires_at = self._times(claims)
        subject = self._subject(claims)
        identity = Identity(self._settings.issuer, subject, self._routes(claims), not_before, expires_at)
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
