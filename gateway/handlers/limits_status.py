"""`GET /gateway/v1/limits`: what is left of each limit of the caller, on every route it may use; charges nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gateway import web
from gateway.admission.gcra import LimitStatus
from gateway.admission.limiter import Limiter
from gateway.admission.quotas import ApplicableLimit, LimitResolver, Quota
from gateway.auth.caller import Caller, refusal
from gateway.config import Route
from gateway.exchange import Exchange
from gateway.pipeline import json_response


class LimitsStatus:
    """Lists every limit that applies to the caller."""

    def __init__(self, limiter: Limiter, resolver: LimitResolver, routes: Sequence[Route]) -> None:
        self._limiter = limiter
        self._resolver = resolver
        self._routes = routes

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        """Answer from one reading of the store.

        Raises:
            StoreUnavailable: the store does not answer, and `when_store_fails` is `closed`.
        """
        caller = exchange.caller
        limits = [
            (route.name, limit)
            for route in self._routes
            if refusal(route, caller) is None
            for limit in self._of_route(route.name, caller, exchange.client)
        ]
        limits += [("", limit) for limit in self._resolver.of_key(caller.key_name, caller.limits)]
        charges = [limit.quota.charge(limit.subject) for _, limit in limits]
        statuses = await self._limiter.peek(charges)
        listed = [
            _described(route, limit.quota, status)
            for (route, limit), status in zip(limits, statuses, strict=True)
        ]
        return json_response({"caller": caller.name, "limits": listed})

    def _of_route(self, route: str, caller: Caller, address: str) -> tuple[ApplicableLimit, ...]:
        limits = self._resolver.of_route(route, caller.counted_name, address)
        return limits + self._resolver.of_unproven(route, address) if caller.is_unproven else limits


def _described(route: str, quota: Quota, status: LimitStatus) -> dict[str, object]:
    """`route`: empty for a limit of the API key."""
    return {
        "route": route or None,
        "name": quota.name,
        "by": quota.by if route else "key",
        "kind": quota.rule.kind,
        "limit": quota.amount,
        "remaining": status.remaining,
        "reset_s": None if status.reset is None else math.ceil(status.reset),
        "retry_after_s": math.ceil(status.retry_after),
    }
