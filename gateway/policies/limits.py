"""How much: asks the limits of a request before it goes on, and tells the client what is left of each.

Requests by address before authentication, in a step of its own; all others when it is known what is asked and by
whom, in one step: all are spent, or none is. What was taken belongs to the run, which settles it and gives it back;
where no run begins, it is given back when the request leaves.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence

from gateway.admission.gcra import SECOND, LimitStatus
from gateway.admission.limiter import Admission, Limiter
from gateway.admission.quotas import ApplicableLimit, LimitResolver, Quota, caller_of, subject
from gateway.admission.store import StoreBudget
from gateway.config import Limit, Route
from gateway.errors import RateLimited, StoreUnavailable
from gateway.exchange import Exchange
from gateway.flowise.endpoints import Counted, FlowIn, Match, Purpose
from gateway.telemetry.metrics import Metrics

MINTING = "session-tokens"  # the limit of minting, for each key
ASKING, ASKED = "limits", 120  # of asking what is left, for each caller in a minute
_MINUTE = 60.0
_UNITS = {"tokens": ';qu="tokens"', "concurrent": ';qu="concurrent-requests"', "requests": ""}


class Limits:
    """The two rooms, `by_address` and `by_caller`, and what they ask."""

    def __init__(self, limiter: Limiter, routes: Sequence[Route], minted: int, metrics: Metrics) -> None:
        self.assignment = LimitResolver(routes)
        self._limiter = limiter
        self._metrics = metrics
        minting = Limit.model_construct(name=MINTING, requests=minted, per=_MINUTE, by="caller")
        self._minting = Quota("minting", minting)
        asking = Limit.model_construct(name=ASKING, requests=ASKED, per=_MINUTE, by="caller")
        self._asking = Quota("asking", asking)

    def rooms(self, *, is_shadow: bool) -> tuple[Callable[[Exchange], Awaitable[None]], ...]:
        """Both, in their order. `is_shadow`: decide and record, refuse nobody."""

        async def by_address(exchange: Exchange) -> None:
            if exchange.route is not None and _counted(exchange.match) is Counted.ROUTE:
                assigned = self.assignment.by_address(exchange.route.name, exchange.party)
                await self._ask(exchange, assigned, is_shadow=is_shadow)

        async def by_caller(exchange: Exchange) -> None:
            await self._ask(exchange, self._assigned(exchange), is_shadow=is_shadow)

        return by_address, by_caller

    def _assigned(self, exchange: Exchange) -> list[ApplicableLimit]:
        party, found = exchange.party, exchange.match
        counted = _counted(found)
        if counted is Counted.TOKENS:
            return [ApplicableLimit(self._minting, subject(party.key))]
        if counted is Counted.STATUS:
            return [ApplicableLimit(self._asking, caller_of(party))]
        if exchange.route is None or found is None or counted is Counted.NOTHING:
            return []
        route = exchange.route.name
        is_late = found.endpoint.flow_in is FlowIn.BODY  # the route was not known before authentication
        late = self.assignment.by_address(route, party) if is_late else []
        return late + self.assignment.by_caller(route, party)

    async def _ask(self, exchange: Exchange, assigned: list[ApplicableLimit], *, is_shadow: bool) -> None:
        is_run = exchange.match is not None and exchange.match.endpoint.purpose is Purpose.RUN
        assigned = [one for one in assigned if is_run or one.quota.rule.kind == "requests"]
        if not assigned:
            return
        try:
            admission = await self._admit(exchange, assigned)
        except StoreUnavailable:
            if is_shadow:
                return
            raise
        if not admission.is_allowed:
            exchange.limited_by = ",".join(filter(None, (exchange.limited_by, *admission.refused)))
            for name in admission.refused:
                self._metrics.limited.labels(exchange.route_name, name).inc()
            if not is_shadow:
                raise _refusal(exchange, admission.refused, admission.retry_after)

    async def _admit(self, exchange: Exchange, assigned: list[ApplicableLimit]) -> Admission:
        """Charge for all of them in one step, and tell the client what is left."""
        size = 0 if exchange.prediction is None else len(exchange.prediction.question.encode())
        exchange.patience = exchange.patience or StoreBudget()
        asks = [one.quota.ask(one.subject, size) for one in assigned]
        admission = await self._limiter.admit(asks, exchange.patience)
        exchange.admissions += (admission,)
        exchange.on_response_done(lambda: None if exchange.is_run_open else exchange.give_back(0))
        exchange.standings += tuple(
            (one.quota, left) for one, left in zip(assigned, admission.standings, strict=True)
        )
        _tell(exchange)
        return admission


def _counted(found: Match | None) -> Counted:
    return Counted.NOTHING if found is None else found.endpoint.counted


def _tell(exchange: Exchange) -> None:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11), for all steps so far."""
    exchange.response_headers["RateLimit-Policy"] = ", ".join(
        _policy(quota) for quota, _ in exchange.standings
    )
    exchange.response_headers["RateLimit"] = ", ".join(_left(*one) for one in exchange.standings)


def _policy(quota: Quota) -> str:
    rule = quota.rule
    window = "" if rule.kind == "concurrent" else f";w={math.ceil(rule.depth / SECOND)}"
    return f'"{quota.name}";q={quota.amount}{window}{_UNITS[rule.kind]}'


def _left(quota: Quota, standing: LimitStatus) -> str:
    reset = "" if standing.reset is None else f";t={math.ceil(standing.reset)}"
    return f'"{quota.name}";r={standing.remaining}{reset}'


def _refusal(exchange: Exchange, refused: Iterable[str], retry_after: float) -> RateLimited:
    names = tuple(refused)
    kinds = {quota.rule.kind for quota, _ in exchange.standings if quota.name in names}
    used_up = [
        left.reset or 0.0
        for quota, left in exchange.standings
        if quota.rule.kind == "requests" and left.remaining == 0  # by this very request, in an earlier step
    ]
    seconds = math.ceil(max(retry_after, *used_up, 0.0))
    if kinds == {"concurrent"}:
        sentence = "Too many answers are running at once; wait until one of them has ended."
    elif "tokens" in kinds:
        sentence = f"The tokens that are allowed here are used up; try again in {_words(seconds)}."
    else:
        sentence = f"Too many requests; try again in {_words(seconds)}."
    return RateLimited(sentence, headers={"Retry-After": str(seconds)}, policies=names)


def _words(seconds: int) -> str:
    """A time as people say it, never too short."""
    for size, unit, plural in ((3600, "hour", "hours"), (60, "minute", "minutes")):
        if seconds > 2 * size:
            return f"{math.ceil(seconds / size)} {plural}"
        if seconds == size:
            return f"1 {unit}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"
