"""A run: one prediction inside Flowise, from the send until its answer ended, with or without a client.

The conversation's turn belongs to the run, not to the client: it is given back when Flowise's answer has
ended, failed, or was closed by a deadline. A client that leaves makes the run be aborted (or not, by the
route), read to its end and metered all the same. A run is settled exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

from gateway.aio import Tasks
from gateway.errors import GatewayError, UpstreamTimeout
from gateway.exchange import Exchange
from gateway.flowise.outcome import Outcome, of_error
from gateway.flowise.usage import Usage, UsageSource
from gateway.relay.call import Call
from gateway.relay.deadlines import Deadline, Deadlines
from gateway.relay.registry import InFlight
from gateway.relay.replies import Answer, answer_for, counted
from gateway.relay.results import upstream_result
from gateway.telemetry.metrics import Metrics
from gateway.upstream.response_parser import BodyEnd, ResponseHead

GRACE = 10.0  # seconds that are still read after a deadline
# A client may leave before Flowise knows the run, and then the abort finds nothing: so it is said again, while it runs.
ABORT_AGAIN, ABORTS = 1.0, 3  # seconds; how often in all
TOLD = {
    Deadline.HEAD: "Flowise did not begin to answer in time.",
    Deadline.FIRST_EVENT: "Flowise sent no event in time.",
    Deadline.IDLE: "Flowise went silent in the middle of the answer.",
    Deadline.TOTAL: "The answer took longer than is allowed here.",
}


@dataclass(frozen=True, slots=True)
class RunServices:
    """What a run needs of the house. `abort` tells whether Flowise took the abort."""

    calls: InFlight
    tasks: Tasks
    metrics: Metrics
    abort: Callable[[Exchange], Awaitable[bool]]


class Run:
    """The owner of one call."""

    __slots__ = (
        "_abort",
        "_abort_again_at",
        "_aborts",
        "_answer",
        "_close_at",
        "_gauge",
        "_is_abort_taken",
        "_is_closed_by_us",
        "_services",
        "call",
        "exchange",
    )

    def __init__(self, exchange: Exchange, deadlines: Deadlines, services: RunServices) -> None:
        self.exchange = exchange
        self.call = Call(self, deadlines)
        self._services = services
        self._answer: Answer | None = None
        self._close_at: float | None = None
        self._abort: asyncio.Task[None] | None = None
        self._abort_again_at = 0.0
        self._aborts = 0
        self._is_abort_taken = False
        self._is_closed_by_us = False
        self._gauge = services.metrics.runs_active.labels(exchange.route_name)
        self._gauge.inc()
        exchange.is_run_open = True
        services.calls.add(self)

    @property
    def has_client(self) -> bool:
        """Whether somebody still waits for the answer."""
        return not self.call.delivered.is_set

    # -- CallListener ---------------------------------------------------------------------------------

    def on_head(self, head: ResponseHead) -> None:
        """Flowise begins to answer: choose who reads along."""
        self.exchange.timings.upstream_head = monotonic()
        self._answer = answer_for(head)
        self.exchange.is_streaming = self._answer.is_stream
        if not self._answer.is_stream:
            self.call.deadlines.is_first_event_seen = True
        self.call.observer = self._answer

    def on_client_left(self) -> None:
        """Nobody waits any more; Flowise would go on to the last token."""
        self._caused(Outcome.CLIENT_CLOSED)
        route = self.exchange.route
        if self._services.calls.is_draining or (route is not None and route.on_disconnect == "abort"):
            self.abort()

    def on_deadline(self, deadline: Deadline) -> None:
        """Too long: tell the client, abort, read on for a short while, then close."""
        self._end_soon(Outcome.TIMEOUT, UpstreamTimeout(TOLD[deadline]), f"deadline: {deadline}")

    def on_over(self, end: BodyEnd | GatewayError) -> None:
        """Flowise is done with it, one way or another."""
        self._services.calls.discard(self)
        self._gauge.dec()
        status = 0 if self._answer is None else self._answer.status
        self.exchange.upstream_result = upstream_result(end, status, self.exchange.outcome)
        self._caused(self._outcome(end))
        self.exchange.free_slots()
        if self._abort is None:
            self._give_turn_back()
        evidence = self._evidence()
        if self._abort is not None or (evidence is not None and evidence.is_heavy):
            self._services.tasks.start(self._settle_later(evidence), "settle")
        else:
            self._settle(counted(evidence))

    def _evidence(self) -> UsageSource | None:
        """What its tokens are counted from: at least the question, once Flowise has it. None: it cost nothing."""
        if self._answer is not None:
            return self._answer.evidence(self._question)
        return UsageSource(question_bytes=len(self._question.encode())) if self.call.is_sent else None

    # -- endings that come from inside the gateway ---------------------------------------------------

    def abort(self) -> None:
        """Ask Flowise to stop, once, if the request has reached it."""
        if self._abort is None and not self.call.is_over and self.call.is_sent:
            self._begin_abort()

    def _begin_abort(self) -> None:
        self._aborts += 1
        self._abort_again_at = monotonic() + ABORT_AGAIN * self._aborts
        self._abort = self._services.tasks.start(self._send_abort(), "abort")

    def end_now(self, error: GatewayError) -> None:
        """The drain is over: tell the client, abort, close."""
        self._is_closed_by_us = True
        self._tell(Outcome.REFUSED if self._answer is None else Outcome.TRUNCATED, error, error.code)
        self.call.close()

    def turn_away(self, error: GatewayError) -> None:
        """Its caller may not go on: tell the client, abort, read on for a short while, then close."""
        self._end_soon(Outcome.REFUSED, error, f"{error.code}: {error.message}")

    def _end_soon(self, outcome: Outcome, error: GatewayError, said: str) -> None:
        if self._close_at is None:
            self._close_at = monotonic() + GRACE
            self._tell(outcome, error, said)

    def _tell(self, outcome: Outcome, error: GatewayError, said: str) -> None:
        self._caused(outcome)
        self.exchange.error = self.exchange.error or said
        self.call.fail(error)
        self.call.tell(error.message)
        self.abort()

    def tick(self, now: float) -> None:
        """Time passes. `now`: monotonic seconds."""
        self.call.tick(now)
        is_answered = self._is_abort_taken and self._abort is not None and self._abort.done()
        if is_answered and not self.call.is_over and self._aborts < ABORTS and now >= self._abort_again_at:
            self._begin_abort()
        if self._close_at is not None and now >= self._close_at and not self.call.is_over:
            self._is_closed_by_us = True
            self.call.close()

    # -- the account ---------------------------------------------------------------------------------

    async def _send_abort(self) -> None:
        self._is_abort_taken = await self._services.abort(self.exchange)

    async def _settle_later(self, evidence: UsageSource | None) -> None:
        is_heavy = evidence is not None and evidence.is_heavy
        usage, is_counted = (None, False) if is_heavy else (counted(evidence), True)
        try:
            if self._abort is not None:
                await asyncio.wait([self._abort])
            if is_heavy:
                usage, is_counted = await asyncio.to_thread(counted, evidence), True
        finally:  # also when the process cannot wait any longer
            self._give_turn_back()
            self._settle(usage, is_counted=is_counted)

    def _give_turn_back(self) -> None:
        """Not before an abort was answered: Flowise keys it by conversation, it would hit the next run."""
        if self.exchange.release_conversation is not None:
            self.exchange.release_conversation()

    def _settle(self, usage: Usage | None, *, is_counted: bool = True) -> None:
        """`is_counted`: else nobody knows, and what was reserved stays spent."""
        exchange, answer = self.exchange, self._answer
        if answer is not None:
            exchange.events, exchange.gaps = answer.events, answer.gaps
            exchange.timings.first_token = answer.first_token_at
        exchange.usage, exchange.bytes_in = usage, self.call.bytes_in
        if is_counted:
            exchange.give_back(0 if usage is None else usage.input + usage.output)
        if self._abort is not None:
            exchange.abort = self._abort_result()
        exchange.settled()

    def _caused(self, outcome: Outcome) -> None:
        """What came first decides; said at once, because the client's end of it may be noticed before Flowise's."""
        self.exchange.outcome = self.exchange.outcome or outcome

    def _outcome(self, end: BodyEnd | GatewayError) -> Outcome:
        if isinstance(end, GatewayError):
            return of_error(end)
        return Outcome.UPSTREAM_ERROR if self._answer is None else self._answer.outcome(end)

    def _abort_result(self) -> str:
        if not self._is_abort_taken:
            return "failed"
        is_finished = self._answer is not None and self._answer.is_finished
        return "ran_on" if is_finished or self._is_closed_by_us else "stopped"

    @property
    def _question(self) -> str:
        return "" if self.exchange.prediction is None else self.exchange.prediction.question
