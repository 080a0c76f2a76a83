"""Tells a caller what is left of each limit, on every route that it may use; asking spends nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aiohttp import web

from gateway.admission.gcra import LimitStatus
from gateway.admission.limiter import Limiter
from gateway.admission.quotas import ApplicableLimit, LimitResolver
from gateway.auth.caller import refusal
from gateway.config import Route
from gateway.exchange import Exchange
from gateway.handlers.local import local_json


class LimitsStatus:
    """The handler."""

    def __init__(self, limiter: Limiter, assignment: LimitResolver, routes: Sequence[Route]) -> None:
        self._limiter = limiter
        self._assignment = assignment
        self._routes = routes

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        """Answer one request.

        Raises:
            StoreUnavailable: the store does not answer, and then nobody passes.
        """
        caller = exchange.caller
        party = exchange.party
        listed: list[tuple[str | None, ApplicableLimit]] = []
        for route in self._routes:
            if refusal(route, caller) is None:
                listed += [(route.name, one) for one in self._assignment.of_route(route.name, party)]
        listed += [(None, one) for one in self._assignment.of_key(party)]
        left = await self._limiter.peek([one.quota.ask(one.subject) for _, one in listed])
        told = [_told(route, one, standing) for (route, one), standing in zip(listed, left, strict=True)]
        return local_json(exchange, {"caller": caller.name, "limits": told})


def _told(route: str | None, one: ApplicableLimit, standing: LimitStatus) -> dict[str, object]:
    quota = one.quota
    return {
        "route": route,
        "name": quota.name,
        "by": "key" if route is None else quota.by,
        "kind": quota.rule.kind,
        "limit": quota.amount,
        "remaining": standing.remaining,
        "reset_s": None if standing.reset is None else math.ceil(standing.reset),
        "retry_after_s": math.ceil(standing.retry_after),
    }
