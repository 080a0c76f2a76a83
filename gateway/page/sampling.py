"""Gathers a `Sample` of this process, and ends a run. It reads what is there already, only when it is asked.

The stages of a request, in their order: `before` (its body, limits), `conversation` (another answer of the conversation
has not ended), `connection` (there is none to Flowise yet), `flowise` (the request is sent, no head has come),
`first_token` (no token has come), `streaming`, `no_client` (the client has left, the run goes on), `ending`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from time import monotonic, time

from aiohttp import hdrs

from gateway.admission.limiter import Limiter
from gateway.admission.quotas import Charge
from gateway.admission.store import StoreBudget
from gateway.errors import EndedByOperator, StoreUnavailable
from gateway.exchange import Exchange
from gateway.flowise.endpoints import Purpose
from gateway.page.recent import Recent, Used
from gateway.page.sample import (
    MOST_CALLERS,
    MOST_LIMITS,
    MOST_RUNS,
    MOST_SERVERS,
    MOST_WAITING,
    CallerUse,
    LimitLeft,
    Line,
    Run,
    Sample,
    ServerState,
    cut,
)
from gateway.pipeline import Pipeline
from gateway.policies.routing import Current
from gateway.relay.registry import InFlight, InFlightCall, Progress
from gateway.serving import Serving
from gateway.telemetry.log_lines import shortened
from gateway.telemetry.logs import Logger

LIMITS_EVERY = 5.0  # seconds between two questions about what is left, one call to the store
LONGEST_IN_LINE, MOST_IN_LINE = 512, 10  # characters of a text and items of a list of a log line
NO_PROGRESS = Progress(is_sent=False, first_token_at=None, tokens=0)
ENDED = "An operator of this gateway has ended the answer. Ask again in a moment."


class Sampling:
    """Of one process; `now` and all times that it returns are in seconds since the epoch."""

    def __init__(
        self,
        recent: Recent,
        in_flight: InFlight,
        pipeline: Pipeline,
        current: Current[Serving],
        limiter: Limiter,
        logger: Logger,
    ) -> None:
        self._recent = recent
        self._in_flight = in_flight
        self._pipeline = pipeline
        self._current = current
        self._limiter = limiter
        self._logger = logger
        self._epoch = time() - monotonic()  # once, so that a row whose run has not changed stays the same
        self._left: dict[str, LimitLeft] = {}  # by the bucket
        self._limits_at = -math.inf

    async def sample(self, after: int) -> Sample:
        """This moment. `after`: the number of the last line that is known."""
        used = list(islice(self._recent.used(), MOST_CALLERS))
        await self._look_at_limits(used)
        waiting = [exchange for exchange in self._pipeline.pending() if _may_be_run(exchange)]
        runs, open_runs = self._runs()
        return Sample(
            open_runs=open_runs,
            waiting=len(waiting),
            callers_known=self._recent.callers,
            is_store_up=self._limiter.is_store_up,
            last_line=self._recent.last_line,
            runs=[*runs, *(self._waiting(exchange) for exchange in waiting[:MOST_WAITING])],
            callers=[self._caller(one) for one in used],
            servers=list(islice(self._servers(), MOST_SERVERS)),
            lines=self._lines(after),
        )

    def _lines(self, after: int) -> list[Line]:
        """Without the fields that the log drops."""
        dropped = self._current.serving.config.logs.fields.drop
        return [
            Line(
                kept.number,
                kept.ended,
                shortened(
                    {name: value for name, value in kept.line.items() if name not in dropped},
                    LONGEST_IN_LINE,
                    MOST_IN_LINE,
                ),
            )
            for kept in self._recent.lines_after(after)
        ]

    def end(self, key: str, operator: str) -> bool:
        """End the run with this key for the operator at this address; returns whether there is one."""
        error = EndedByOperator(ENDED)
        found: list[Exchange] = []

        def is_meant(exchange: Exchange) -> bool:
            if key_of(exchange) != key:
                return False
            found.append(exchange)
            return True

        self._in_flight.terminate(error, is_meant)
        self._pipeline.reject_pending(error, is_meant)
        for exchange in found[:1]:
            self._logger.warning(
                "run_ended_by_operator",
                request_id=exchange.request_id,
                route=exchange.route_name,
                caller=exchange.caller.name or None,
                client=exchange.client,
                operator=operator,
            )
        return bool(found)

    # -- runs --------------------------------------------------------------------------------------

    def _runs(self) -> tuple[list[Run], int]:
        """The oldest and the newest, and how many there are."""
        oldest = list(islice(self._in_flight.runs(), MOST_RUNS))
        known = set(oldest)
        newest = list(islice(self._in_flight.runs(newest_first=True), MOST_RUNS))
        shown = [*oldest, *(run for run in reversed(newest) if run not in known)]
        return [self._run(run) for run in shown], self._in_flight.run_count

    def _run(self, run: InFlightCall) -> Run:
        exchange, progress = run.exchange, run.progress or NO_PROGRESS
        row = self._row(exchange)
        row.stage = _stage(run, progress)
        row.has_client = run.has_client
        row.tokens = progress.tokens
        if progress.first_token_at is not None:
            row.first_token = round(progress.first_token_at - exchange.timings.received, 3)
        return row

    def _waiting(self, exchange: Exchange) -> Run:
        row = self._row(exchange)
        is_at_lock = exchange.chat_id is not None and exchange.release_conversation is None
        row.stage = "conversation" if is_at_lock else "before"
        return row

    def _row(self, exchange: Exchange) -> Run:
        return Run(
            key=key_of(exchange),
            request_id=exchange.request_id,
            route=exchange.route_name,
            caller=cut(exchange.caller.name),
            client=exchange.client,
            agent=cut(exchange.request.headers.get(hdrs.USER_AGENT, "")),
            server=exchange.server,
            stage="",
            since=round(exchange.timings.received + self._epoch, 3),
            first_token=None,
            tokens=0,
            has_client=True,
        )

    # -- callers -----------------------------------------------------------------------------------

    async def _look_at_limits(self, used: Sequence[Used]) -> None:
        """Ask what is left of each limit of these callers, if it is time. Without the store it is not known."""
        if monotonic() < self._limits_at + LIMITS_EVERY:
            return
        self._limits_at = monotonic()
        found = {charge.key: (quota, charge) for one in used for quota, charge in one.limits()}
        charges: list[Charge] = [charge for _, charge in found.values()]
        try:
            statuses = await self._limiter.peek(charges, StoreBudget())
        except StoreUnavailable:
            statuses = []
        left = zip(found.items(), statuses, strict=False)
        self._left = {
            key: LimitLeft(
                cut(quota.name),
                quota.rule.kind,
                quota.amount,
                status.remaining,
                None if status.reset is None else math.ceil(status.reset),
            )
            for (key, (quota, _)), status in left
        }

    def _caller(self, used: Used) -> CallerUse:
        limits = [left for _, charge in used.limits() if (left := self._left.get(charge.key)) is not None]
        return CallerUse(
            used.route,
            cut(used.caller),
            used.requests,
            used.not_ok,
            used.tokens_in,
            used.tokens_out,
            round(used.last, 3),
            limits[:MOST_LIMITS],
        )

    # -- servers -----------------------------------------------------------------------------------

    def _servers(self) -> Iterator[ServerState]:
        for name, upstream in self._current.serving.upstreams.items():
            for server in upstream.servers:
                standing = server.standing
                reason = "" if standing.is_up else cut(standing.reason)
                yield ServerState(
                    name, server.label, server.identity.address, standing.is_up, reason, server.busy
                )


def key_of(exchange: Exchange) -> str:
    """Names a request among all of this machine: no two begin in the same nanosecond."""
    return f"{exchange.timings.received:.9f}"


def _may_be_run(exchange: Exchange) -> bool:
    return exchange.match is not None and exchange.match.endpoint.purpose is Purpose.RUN


def _stage(run: InFlightCall, progress: Progress) -> str:
    exchange = run.exchange
    if exchange.terminated_by is not None:
        return "ending"
    if not run.has_client:
        return "no_client"
    if not progress.is_sent:
        return "connection"
    if exchange.timings.upstream_head is None:
        return "flowise"
    return "first_token" if progress.first_token_at is None else "streaming"
