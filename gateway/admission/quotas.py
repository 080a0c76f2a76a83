"""Limits made ready to be charged: which limits apply to a request, and whose bucket each one counts in.

Bucket keys are the same in every store: `fgw:{scope}:kind:per:limit:subject`. The braces are a Redis hash tag: all
limits of one scope (a route, or an API key with limits of its own) are in one cluster slot. A request whose limits have
two scopes has two slots. Kind and time are part of the key, so that a limit counts anew when one of them changes. If
only its amount does, its buckets stay, and what is used of one stays the same share.
The subject is a digest: callers choose its text, and neither its length nor its content reaches a store.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple, NewType

from gateway.admission.gcra import SECOND, LimitKind, LimitStatus, Rule, request_rule, slot_rule, token_rule
from gateway.config import Limit, Route
from gateway.http.forwarded import site_of

PREFIX = "fgw:"
KEY_LIMIT_PREFIX = "key:"  # of the name of an API key's own limit, so that it differs from every route's
ADDRESS_LIMIT_PREFIX = "address:"  # of a limit by caller that counts by address as well, likewise
BYTES_PER_TOKEN = 4  # estimate for a question whose tokens are not counted yet
REMEMBERED = 1024  # callers and addresses, with about 2 KB for each
_PLAIN = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_LETTERS: dict[LimitKind, str] = {"requests": "r", "tokens": "t", "concurrent": "c"}

_UNITS: dict[LimitKind, str] = {
    "tokens": ';qu="tokens"',
    "concurrent": ';qu="concurrent-requests"',
    "requests": "",
}

Subject = NewType("Subject", str)


class ApplicableLimit(NamedTuple):
    """One limit that applies to a request, and whose bucket it counts in. `fixed`: its charge, if each is the same."""

    quota: Quota
    subject: Subject
    fixed: Charge | None = None


class LimitResolver:
    """Finds the limits of a request: those of its route, and those of its API key.

    `caller` is the caller's full name, empty for an anonymous caller, which counts by address. `unlimited`: the routes
    without any limit. What applies to the callers of the last requests is remembered.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._by_route = {route.name: _quotas(f"route:{route.name}", route.limits) for route in routes}
        self._pre_auth = {
            name: tuple(filter(_is_pre_auth, quotas)) for name, quotas in self._by_route.items()
        }
        self._post_auth = {
            name: tuple(quota for quota in quotas if not _is_pre_auth(quota))
            for name, quotas in self._by_route.items()
        }
        self._of_unproven = {
            route.name: _quotas(f"route:{route.name}", _by_address(route.limits), ADDRESS_LIMIT_PREFIX)
            for route in routes
            if route.takes_flowise_keys
        }
        self.unlimited = frozenset(name for name, quotas in self._by_route.items() if not quotas)
        self._by_key: dict[str, tuple[tuple[Limit, ...], tuple[Quota, ...]]] = {}
        self._applicable = lru_cache(REMEMBERED)(_applicable)

    def of_route(self, route: str, caller: str, address: str) -> tuple[ApplicableLimit, ...]:
        """All limits of a route."""
        return self._applicable(self._by_route[route], caller, address)

    def pre_auth(self, route: str, address: str) -> tuple[ApplicableLimit, ...]:
        """The limits of a route that need only the address, and count requests."""
        quotas = self._pre_auth[route]
        return self._applicable(quotas, "", address) if quotas else ()

    def post_auth(self, route: str, caller: str, address: str) -> tuple[ApplicableLimit, ...]:
        """All other limits of a route."""
        quotas = self._post_auth[route]
        return self._applicable(quotas, caller, address) if quotas else ()

    def of_unproven(self, route: str, address: str) -> tuple[ApplicableLimit, ...]:
        """The limits by caller of a route once more, by address: for callers that anybody can make up."""
        return self._applicable(self._of_unproven.get(route, ()), "", address)

    def of_key(self, name: str, limits: tuple[Limit, ...]) -> tuple[ApplicableLimit, ...]:
        """The limits of an API key, which count it with all its sessions over all routes."""
        if not limits:
            return ()
        known = self._by_key.get(name)
        if known is None or known[0] != limits:
            known = self._by_key[name] = (limits, _quotas(f"key:{name}", limits, KEY_LIMIT_PREFIX))
        return tuple([ApplicableLimit(quota, SHARED) for quota in known[1]])


def _is_pre_auth(quota: Quota) -> bool:
    """Tokens and slots are charged for a prediction only, which is not read before its caller is known."""
    return quota.by == "address" and quota.rule.kind == "requests"


def _by_address(limits: Sequence[Limit]) -> list[Limit]:
    return [limit.model_copy(update={"by": "address"}) for limit in limits if limit.by == "caller"]


def _quotas(scope: str, limits: Sequence[Limit], prefix: str = "") -> tuple[Quota, ...]:
    return tuple(
        Quota(scope, limit.model_copy(update={"name": prefix + limit.name}) if prefix else limit)
        for limit in limits
    )


def _applicable(quotas: tuple[Quota, ...], caller: str, address: str) -> tuple[ApplicableLimit, ...]:
    """Each quota with its subject; a subject of several quotas is computed once."""
    subjects: dict[str, Subject] = {"route": SHARED}
    found = []
    for quota in quotas:
        by = "address" if quota.by == "caller" and not caller else quota.by
        if by not in subjects:
            subjects[by] = caller_subject(caller if by == "caller" else "", address)
        fixed = None if quota.rule.kind == "tokens" else quota.charge(subjects[by])
        found.append(ApplicableLimit(quota, subjects[by], fixed))
    return tuple(found)


class Charge(NamedTuple):
    """What one request is charged in one bucket. All charges of a decision have different buckets.

    Attributes:
        name: the limit's.
        key: the bucket's.
        rule: the limit as numbers.
        cost: what is spent if the request passes.
        is_slot: whether it takes a slot; otherwise it spends of a rate.
    """

    name: str
    key: str
    rule: Rule
    cost: int
    is_slot: bool


class Quota:
    """One limit in one scope, for all its subjects.

    Attributes:
        name: the limit's.
        by: what shares a bucket, as configured; the subject given to `charge` must match.
        rule: the limit as numbers.
        amount: requests, tokens or slots of a full bucket.
        window: seconds in which an empty bucket fills, rounded up; 0 for slots. From the configured numbers: those of
            `rule` are rounded for each request, which would add up.
        policy: its item of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11).
    """

    __slots__ = (
        "_cost",
        "_is_slot",
        "_prefix",
        "_reserve",
        "amount",
        "by",
        "name",
        "policy",
        "rule",
        "window",
    )

    def __init__(self, scope: str, limit: Limit) -> None:
        self.name = limit.name
        self.by = limit.by
        self.rule = _rule(limit)
        per = self.rule.per if limit.per is None else max(1, round(limit.per * SECOND))
        rule = f"{_LETTERS[self.rule.kind]}:{per}"
        self._prefix = f"{PREFIX}{{{_plain(scope)}}}:{rule}:{_plain(limit.name)}:"
        self.amount = self.rule.amount if self.rule.kind == "tokens" else self.rule.depth // self.rule.need
        self.window = _window(limit, self.amount)
        window = f";w={self.window}" if self.window else ""
        self.policy = f'"{self.name}";q={self.amount}{window}{_UNITS[self.rule.kind]}'
        self._is_slot = self.rule.kind == "concurrent"
        self._reserve = limit.reserve
        self._cost = None if self.rule.kind == "tokens" else self.rule.need

    def charge(self, subject: Subject, question: int = 0) -> Charge:
        """The charge for one request of this subject.

        Of a token limit it is an estimate: the size of the `question` in bytes / 4, plus `reserve`. It is corrected
        when the run ends.
        """
        cost = self._cost
        if cost is None:
            cost = self.rule.cost(-(-question // BYTES_PER_TOKEN) + self._reserve)
        return Charge(self.name, self._prefix + subject, self.rule, cost, self._is_slot)


def _rule(limit: Limit) -> Rule:
    if limit.concurrent is not None:
        return slot_rule(limit.concurrent)
    if limit.per is None:
        raise AssertionError("the configuration checks that a rate has a time")
    if limit.requests is not None:
        return request_rule(limit.requests, limit.per, limit.burst)
    if limit.tokens is None:
        raise AssertionError("the configuration checks that a limit names what it counts")
    return token_rule(limit.tokens, limit.per)


def _window(limit: Limit, amount: int) -> int:
    if limit.per is None:
        return 0
    return math.ceil(Fraction(str(limit.per)) * amount / (limit.requests or limit.tokens or 1))


def caller_subject(caller: str, address: str) -> Subject:
    """The subject of a caller, or, if `caller` is empty, of an address."""
    return subject(f"caller:{caller}" if caller else f"address:{site_of(address)}")


def subject(text: str) -> Subject:
    """Who shares a bucket (a caller's full name, an address, nothing for a whole route), fit for a key."""
    return Subject(digest(text))


def digest(*parts: str) -> str:
    """32 hexadecimal digits that differ for different sequences of parts."""
    found = blake2b(digest_size=16)
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        found.update(b"%d:%b" % (len(content), content))
    return found.hexdigest()


def _plain(text: str) -> str:
    """The text itself where it is harmless in a key, otherwise its digest; no harmless text looks like a digest."""
    return text if _PLAIN.fullmatch(text) else "~" + digest(text)


def store_type(key: str) -> str:
    """The type of this key in a Redis: buckets of slots are sorted sets, everything else is text."""
    return "zset" if f"}}:{_LETTERS['concurrent']}:" in key else "string"


SHARED = subject("")  # of a whole route or API key


def slot_keys(charges: Iterable[Charge]) -> tuple[str, ...]:
    """The keys of the buckets that hold slots."""
    return tuple([charge.key for charge in charges if charge.is_slot])


def statuses(charges: Sequence[Charge], used: Sequence[int]) -> list[LimitStatus]:
    """What is left of each bucket."""
    return [charge.rule.status(level) for charge, level in zip(charges, used, strict=True)]
