"""A limit of the configuration made ready to be asked for: its rule, and the key of each subject's own bucket.

Keys are the same in every store: `fgw:{scope}:kind:per:limit:subject`. The braces are a hash tag, so all limits of one
scope (a route, or an API key with limits of its own) are in one slot of a cluster; a request whose limits have
two scopes has two slots. Kind and time stand in the key, so a bucket never holds what another rule has counted.
The subject is a digest: callers choose it, and so neither its length nor what stands in it reaches a store.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple, NewType

from gateway.admission.gcra import Kind, LimitStatus, Rule, request_rule, slot_rule, token_rule
from gateway.config import Limit, Route

PREFIX = "fgw:"
BYTES_PER_TOKEN = 4  # of a question whose tokens nobody has counted yet
_PLAIN = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_LETTERS: dict[Kind, str] = {"requests": "r", "tokens": "t", "concurrent": "c"}


Subject = NewType("Subject", str)


class Charge(NamedTuple):
    """What one request asks of one bucket. In one step every bucket is asked once at most.

    Attributes:
        name: the limit's.
        key: the bucket's.
        rule: the limit as numbers.
        cost: what is spent if it passes.
        is_slot: whether it takes a slot; else it spends of a rate.
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
        by: who shares it, as configured; the caller of `ask` names the subject accordingly.
        rule: the limit as numbers.
        amount: requests, tokens or slots, when it is full.
    """

    __slots__ = ("_cost", "_is_slot", "_prefix", "_reserve", "amount", "by", "name", "rule")

    def __init__(self, scope: str, limit: Limit) -> None:
        self.name = limit.name
        self.by = limit.by
        self.rule = _rule(limit)
        rule = f"{_LETTERS[self.rule.kind]}:{self.rule.per}"
        self._prefix = f"{PREFIX}{{{_plain(scope)}}}:{rule}:{_plain(limit.name)}:"
        self.amount = self.rule.amount if self.rule.kind == "tokens" else self.rule.depth // self.rule.need
        self._is_slot = self.rule.kind == "concurrent"
        self._reserve = limit.reserve
        self._cost = None if self.rule.kind == "tokens" else self.rule.need

    def ask(self, subject: Subject, question: int = 0) -> Charge:
        """One request of this subject; its `question` has so many bytes, of which tokens are estimated."""
        cost = self._cost
        if cost is None:
            cost = self.rule.cost(-(-question // BYTES_PER_TOKEN) + self._reserve)
        return Charge(self.name, self._prefix + subject, self.rule, cost, self._is_slot)


def subject(text: str) -> Subject:
    """Who shares a bucket (a caller's full name, an address, nothing for a whole route), fit for a key.

    Made once for each request, used for all its limits.
    """
    return Subject(digest(text))


def digest(*parts: str) -> str:
    """32 letters for any texts; other parts, other letters."""
    found = blake2b(digest_size=16)
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        found.update(b"%d:%b" % (len(content), content))
    return found.hexdigest()


def slots_of(asks: Iterable[Charge]) -> tuple[str, ...]:
    """The keys of those buckets that hold slots."""
    return tuple([ask.key for ask in asks if ask.is_slot])


def standings(asks: Sequence[Charge], used: Sequence[int]) -> list[LimitStatus]:
    """What is left of each, if so much is used."""
    return [ask.rule.standing(level) for ask, level in zip(asks, used, strict=True)]


def _rule(limit: Limit) -> Rule:
    if limit.concurrent is not None:
        return slot_rule(limit.concurrent)
    if limit.per is None:
        raise AssertionError("the configuration has seen to it that a rate has its time")
    if limit.requests is not None:
        return request_rule(limit.requests, limit.per, limit.burst)
    if limit.tokens is None:
        raise AssertionError("the configuration has seen to it that a limit says what it counts")
    return token_rule(limit.tokens, limit.per)


def _plain(text: str) -> str:
    """The text itself where it is harmless in a key, else its digest; no text can look like a digest."""
    return text if _PLAIN.fullmatch(text) else "~" + digest(text)


EVERYBODY = subject("")
KEY_LIMIT = "key:"  # before the name of a key's own limit, so that it is none of a route's
OF_A_HOME = 64  # bits of an IPv6 address that are one home's; it may choose the others


class Party(NamedTuple):
    """Who asks.

    Attributes:
        caller: the full name; empty: nobody in particular, who counts by address.
        address: an IP address, or empty.
        key: the name of the API key that answers for the caller; empty: none.
        key_limits: that key's own.
    """

    caller: str
    address: str
    key: str = ""
    key_limits: tuple[Limit, ...] = ()


class ApplicableLimit(NamedTuple):
    """One limit that has to be passed, and whose bucket it is."""

    quota: Quota
    subject: Subject


class LimitResolver:
    """The limits of all routes, and of the keys that have asked."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._by_route = {route.name: _quotas(f"route:{route.name}", route.limits) for route in routes}
        self._early = {name: _of_time(quotas, is_early=True) for name, quotas in self._by_route.items()}
        self._late = {name: _of_time(quotas, is_early=False) for name, quotas in self._by_route.items()}
        self._by_key: dict[str, tuple[tuple[Limit, ...], tuple[Quota, ...]]] = {}

    def of_route(self, route: str, party: Party) -> list[ApplicableLimit]:
        """Those of a route."""
        return _of(self._by_route[route], party)

    def by_address(self, route: str, party: Party) -> list[ApplicableLimit]:
        """Those of a route that need nothing but an address, and count requests."""
        return _of(self._early[route], party)

    def by_caller(self, route: str, party: Party) -> list[ApplicableLimit]:
        """All others: of the route, and of the key."""
        return _of(self._late[route], party) + self.of_key(party)

    def of_key(self, party: Party) -> list[ApplicableLimit]:
        """Those of the key alone."""
        if not party.key_limits:
            return []
        known = self._by_key.get(party.key)
        if known is None or known[0] != party.key_limits:
            known = (party.key_limits, _quotas(f"key:{party.key}", party.key_limits, KEY_LIMIT))
            self._by_key[party.key] = known
        return [ApplicableLimit(quota, EVERYBODY) for quota in known[1]]


def network(address: str) -> str:
    """The address, or of IPv6 the network that it shares with its home."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], OF_A_HOME), strict=False))
    except ValueError:
        return address


def caller_of(party: Party) -> Subject:
    """The caller, or the address of nobody in particular."""
    return subject(f"caller:{party.caller}" if party.caller else f"address:{network(party.address)}")


def _of_time(quotas: Sequence[Quota], *, is_early: bool) -> tuple[Quota, ...]:
    """Tokens and runs are those of a prediction, which is not read, nor has its turn, before its caller is known."""
    return tuple(
        quota for quota in quotas if (quota.by == "address" and quota.rule.kind == "requests") == is_early
    )


def _of(quotas: Sequence[Quota], party: Party) -> list[ApplicableLimit]:
    """Each with its subject; who shares several of them is named once."""
    named: dict[str, Subject] = {"route": EVERYBODY}
    assigned = []
    for quota in quotas:
        by = "address" if quota.by == "caller" and not party.caller else quota.by
        if by not in named:
            named[by] = caller_of(party if by == "caller" else party._replace(caller=""))
        assigned.append(ApplicableLimit(quota, named[by]))
    return assigned


def _quotas(scope: str, limits: Sequence[Limit], prefix: str = "") -> tuple[Quota, ...]:
    return tuple(
        Quota(scope, limit.model_copy(update={"name": prefix + limit.name}) if prefix else limit)
        for limit in limits
    )
