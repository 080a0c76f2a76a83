"""Limits: charges each request before it goes on, and states what is left of each limit in the response headers.

Limits on requests by address are charged before authentication; all others in one later decision, when caller and body
are known. Each decision makes all its charges or none. The charges belong to the run, which settles and releases them;
without a run they are released when the response is done.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence

from gateway.admission.gcra import SLOT_RETRY
from gateway.admission.limiter import Admission, Limiter
from gateway.admission.quotas import ApplicableLimit, LimitResolver, Quota, caller_subject, subject
from gateway.admission.store import StoreBudget
from gateway.config import Limit, Route
from gateway.errors import RateLimited, StoreUnavailable
from gateway.exchange import Exchange
from gateway.flowise.endpoints import Counted, Purpose
from gateway.telemetry.metrics import Metrics

SESSION_TOKENS = "session-tokens"  # the limit on issuing session tokens, for each key
LIMITS, LIMITS_PER_MINUTE = "limits", 120  # the limit on `GET /gateway/v1/limits`, for each caller
# The limit on the widget's settings and icons, for each address: anyone may ask, and questions are passed to Flowise.
SETTINGS, SETTINGS_PER_MINUTE = "settings", 600
_MINUTE = 60.0


class Limits:
    """Creates the two policies, `pre_auth` and `post_auth`. `per_minute`: session tokens that one key may issue."""

    def __init__(self, limiter: Limiter, routes: Sequence[Route], per_minute: int, metrics: Metrics) -> None:
        self.resolver = LimitResolver(routes)
        self._limiter = limiter
        self._metrics = metrics
        # the scopes are part of the keys in the store, which two releases share during an upgrade
        tokens = Limit.model_construct(name=SESSION_TOKENS, requests=per_minute, per=_MINUTE, by="caller")
        self._session_tokens = Quota("minting", tokens)
        status = Limit.model_construct(name=LIMITS, requests=LIMITS_PER_MINUTE, per=_MINUTE, by="caller")
        self._limits = Quota("asking", status)
        settings = Limit.model_construct(
            name=SETTINGS, requests=SETTINGS_PER_MINUTE, per=_MINUTE, by="address"
        )
        self._settings = Quota("settings", settings)

    def policies(self, *, is_shadow: bool) -> tuple[Callable[[Exchange], Awaitable[None] | None], ...]:
        """Both, in their order. `is_shadow`: decide and record, but refuse no request."""

        def pre_auth(exchange: Exchange) -> Awaitable[None] | None:
            limits = self._pre_auth(exchange)
            return self._check(exchange, limits, is_shadow=is_shadow) if limits else None

        def post_auth(exchange: Exchange) -> Awaitable[None] | None:
            limits = self._post_auth(exchange)
            return self._check(exchange, limits, is_shadow=is_shadow) if limits else None

        return pre_auth, post_auth

    def _pre_auth(self, exchange: Exchange) -> tuple[ApplicableLimit, ...]:
        counted = Counted.NOTHING if exchange.match is None else exchange.match.endpoint.counted
        if exchange.route is not None and counted is Counted.ROUTE:
            return self.resolver.pre_auth(exchange.route.name, exchange.client)
        if counted is Counted.SETTINGS:
            return (ApplicableLimit(self._settings, caller_subject("", exchange.client)),)
        return ()

    def _post_auth(self, exchange: Exchange) -> tuple[ApplicableLimit, ...]:
        caller, address, found = exchange.caller, exchange.client, exchange.match
        counted = Counted.NOTHING if found is None else found.endpoint.counted
        if counted is Counted.TOKENS:
            return (ApplicableLimit(self._session_tokens, subject(caller.key_name)),)
        if counted is Counted.STATUS:
            return (ApplicableLimit(self._limits, caller_subject(caller.counted_name, address)),)
        if exchange.route is None or found is None or counted is not Counted.ROUTE:
            return ()
        route = exchange.route.name
        if route in self.resolver.unlimited and not caller.limits:
            return ()
        is_late = found.endpoint.is_route_late  # the route was not known before authentication
        by_address = self.resolver.pre_auth(route, address) if is_late else ()
        by_caller = self.resolver.post_auth(route, caller.counted_name, address)
        if caller.is_unproven:
            by_caller += self.resolver.of_unproven(route, address)
        by_key = self.resolver.of_key(caller.key_name, caller.limits) if caller.limits else ()
        return by_address + by_caller + by_key

    async def _check(
        self, exchange: Exchange, limits: tuple[ApplicableLimit, ...], *, is_shadow: bool
    ) -> None:
        is_run = exchange.match is not None and exchange.match.endpoint.purpose is Purpose.RUN
        if not is_run:
            limits = tuple([limit for limit in limits if limit.quota.rule.kind == "requests"])
        if not limits:
            return
        try:
            admission = await self._admit(exchange, limits)
        except StoreUnavailable:
            if is_shadow:
                return
            raise
        if not admission.is_allowed:
            exchange.limited_by = ",".join(filter(None, (exchange.limited_by, *admission.refused)))
            for name in admission.refused:
                self._metrics.cell[self._metrics.limited, exchange.route_name, name][0] += 1
            if not is_shadow:
                raise _rate_limited(exchange, admission.refused, admission.retry_after)

    async def _admit(self, exchange: Exchange, limits: tuple[ApplicableLimit, ...]) -> Admission:
        size = 0 if exchange.prediction is None else len(exchange.prediction.question.encode())
        exchange.store_budget = exchange.store_budget or StoreBudget()
        charges = [limit.fixed or limit.quota.charge(limit.subject, size) for limit in limits]
        admission = await self._limiter.admit(charges, exchange.store_budget)
        exchange.admissions += (admission,)
        exchange.on_response_done(lambda: None if exchange.is_run_open else exchange.settle_limits(0))
        quotas = [limit.quota for limit in limits]
        exchange.limit_statuses += tuple(zip(quotas, admission.statuses, strict=True))
        _set_headers(exchange)
        return admission


def _set_headers(exchange: Exchange) -> None:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11), for all decisions so far."""
    policies, left = [], []
    for quota, status in exchange.limit_statuses:
        reset = "" if status.reset is None else f";t={math.ceil(status.reset)}"
        policies.append(quota.policy)
        left.append(f'"{quota.name}";r={status.remaining}{reset}')
    exchange.response_headers["RateLimit-Policy"] = ", ".join(policies)
    exchange.response_headers["RateLimit"] = ", ".join(left)


def _rate_limited(exchange: Exchange, refused: Iterable[str], retry_after: float) -> RateLimited:
    names = tuple(refused)
    quotas = [quota for quota, _ in exchange.limit_statuses if quota.name in names]
    used_up = [
        status.reset or 0.0
        for quota, status in exchange.limit_statuses
        if quota.rule.kind == "requests" and status.remaining == 0  # by this request, in pre_auth
    ]
    seconds = math.ceil(max(retry_after, *used_up, 0.0))
    waits_for_a_run = {quota.rule.kind for quota in quotas} == {"concurrent"} and seconds <= SLOT_RETRY
    hint = "Wait until one of them has ended." if waits_for_a_run else f"Try again in {_duration(seconds)}."
    message = " ".join([*map(_used_up, quotas), hint])
    return RateLimited(message, headers={"Retry-After": str(seconds)}, policies=names)


def _used_up(quota: Quota) -> str:
    """Which limit refused, with the numbers of `RateLimit-Policy`."""
    kind = quota.rule.kind
    unit = {"requests": "request", "tokens": "token", "concurrent": "answer"}[kind]
    amount = f"{quota.amount} {unit}{'' if quota.amount == 1 else 's'}"
    if kind == "concurrent":
        return f'The limit "{quota.name}" is reached: {amount} at once.'
    return f'The limit "{quota.name}" is used up: {amount} in {_duration(quota.window)}.'


def _duration(seconds: int) -> str:
    """In words, rounded up."""
    for size, unit, plural in ((3600, "hour", "hours"), (60, "minute", "minutes")):
        if seconds > 2 * size:
            return f"{math.ceil(seconds / size)} {plural}"
        if seconds == size:
            return f"1 {unit}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"
