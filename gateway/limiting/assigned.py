"""Which limits a request has to pass, and in whose name: those of its route, then those of its API key.

Nothing is counted here. A key's limits count the key with all its sessions, on all routes together.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from gateway.admission.quotas import Quota, Subject, subject
from gateway.config import Limit, Route

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


class Assigned(NamedTuple):
    """One limit that has to be passed, and whose bucket it is."""

    quota: Quota
    subject: Subject


class Assignment:
    """The limits of all routes, and of the keys that have asked."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._by_route = {route.name: _quotas(f"route:{route.name}", route.limits) for route in routes}
        self._early = {name: _of_time(quotas, is_early=True) for name, quotas in self._by_route.items()}
        self._late = {name: _of_time(quotas, is_early=False) for name, quotas in self._by_route.items()}
        self._by_key: dict[str, tuple[tuple[Limit, ...], tuple[Quota, ...]]] = {}

    def of_route(self, route: str, party: Party) -> list[Assigned]:
        """Those of a route."""
        return _of(self._by_route[route], party)

    def by_address(self, route: str, party: Party) -> list[Assigned]:
        """Those of a route that need nothing but an address, and count requests."""
        return _of(self._early[route], party)

    def by_caller(self, route: str, party: Party) -> list[Assigned]:
        """All others: of the route, and of the key."""
        return _of(self._late[route], party) + self.of_key(party)

    def of_key(self, party: Party) -> list[Assigned]:
        """Those of the key alone."""
        if not party.key_limits:
            return []
        known = self._by_key.get(party.key)
        if known is None or known[0] != party.key_limits:
            known = (party.key_limits, _quotas(f"key:{party.key}", party.key_limits, KEY_LIMIT))
            self._by_key[party.key] = known
        return [Assigned(quota, EVERYBODY) for quota in known[1]]


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


def _of(quotas: Sequence[Quota], party: Party) -> list[Assigned]:
    """Each with its subject; who shares several of them is named once."""
    named: dict[str, Subject] = {"route": EVERYBODY}
    assigned = []
    for quota in quotas:
        by = "address" if quota.by == "caller" and not party.caller else quota.by
        if by not in named:
            named[by] = caller_of(party if by == "caller" else party._replace(caller=""))
        assigned.append(Assigned(quota, named[by]))
    return assigned


def _quotas(scope: str, limits: Sequence[Limit], prefix: str = "") -> tuple[Quota, ...]:
    return tuple(
        Quota(scope, limit.model_copy(update={"name": prefix + limit.name}) if prefix else limit)
        for limit in limits
    )
