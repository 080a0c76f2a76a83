"""A run: one prediction inside Flowise, until its reply has ended, with or without a client.

The conversation and the concurrency slots belong to the run, not to the client: they are released when Flowise's
reply has ended, failed, or was closed by a deadline. If the client leaves, the run is aborted (or not, by the route),
read to its end and metered all the same. A run is settled exactly once.
"""

from __future__ import annotations

import asyncio
from time import monotonic

from msgspec import Struct

from gateway.aio import Tasks, WorkThread
from gateway.errors import GatewayError, UnknownRoute, UpstreamBadReply, UpstreamTimeout
from gateway.exchange import Exchange
from gateway.flowise.error_texts import WRONG_KEY
from gateway.flowise.outcome import Outcome, of_error
from gateway.flowise.usage import Usage, UsageSource
from gateway.relay.call import UpstreamCall
from gateway.relay.counting import TokenCounting
from gateway.relay.deadlines import Deadline, Deadlines
from gateway.relay.outgoing import check_head, identity_of, note_server
from gateway.relay.registry import InFlight, Progress
from gateway.relay.replies import ReplyObserver, observer_for
from gateway.relay.results import upstream_result
from gateway.telemetry.metrics import Metrics
from gateway.upstream import flowise_api
from gateway.upstream.chatflows import Chatflows
from gateway.upstream.choice import Connector
from gateway.upstream.response_parser import BodyEnd, ResponseHead
from gateway.upstream.server import Server
from gateway.upstream.upstream import Upstream

GRACE = 10.0  # seconds for which a reply is still read after a deadline
# An abort that overtakes the prediction finds no run, so it is repeated while the run goes on.
ABORT_AGAIN, ABORTS = 1.0, 3  # seconds; number of aborts
_ANSWERED = (Outcome.OK, Outcome.EMPTY)


class RunServices(Struct, frozen=True):
    """What the runs of a process share."""

    in_flight: InFlight
    tasks: Tasks
    metrics: Metrics
    counting: TokenCounting
    reading: WorkThread  # for large replies
    chatflows: Chatflows


class PredictionRun:
    """The listener of its call."""

    __slots__ = (
        "_abort",
        "_abort_again_at",
        "_abort_failure",
        "_aborts",
        "_chatflows",
        "_close_at",
        "_counting",
        "_in_flight",
        "_is_abort_taken",
        "_is_closed_by_us",
        "_is_doubted",
        "_open",
        "_reply",
        "_tasks",
        "_upstream",
        "call",
        "exchange",
    )
    is_run = True

    def __init__(
        self,
        exchange: Exchange,
        deadlines: Deadlines,
        upstream: Upstream,
        choice: Connector,
        services: RunServices,
    ) -> None:
        self.exchange = exchange
        self.call = UpstreamCall(self, deadlines, choice)
        self._upstream = upstream
        self._in_flight = services.in_flight
        self._tasks = services.tasks
        self._counting = services.counting
        self._chatflows = services.chatflows
        self._reply: ReplyObserver | None = None
        self._close_at: float | None = None
        self._abort: asyncio.Task[None] | None = None
        self._abort_again_at = 0.0
        self._abort_failure = ""
        self._aborts = 0
        self._is_abort_taken = False
        self._is_closed_by_us = False
        self._is_doubted = False  # whether its chatflow was looked up
        self._open = services.metrics.cell[services.metrics.runs_active, exchange.route_name]
        self._open[0] += 1
        exchange.run_started()
        self._in_flight.add(self)

    @property
    def has_client(self) -> bool:
        return not self.call.delivered.is_set

    @property
    def progress(self) -> Progress:
        self.call.catch_up()
        reply = self._reply
        if reply is None:
            return Progress(self.call.is_sent, None, 0)
        events = reply.events
        return Progress(True, reply.first_token_at, events.get("token", 0) + events.get("thinking", 0))

    @property
    def server(self) -> Server:
        return self.call.connector.server

    # -- CallListener ------------------------------------------------------------------------------

    def on_head(self, head: ResponseHead) -> None:
        if self.call.connector.server.label != self.exchange.server:
            note_server(self.exchange, self.call.connector)
        self.exchange.timings.upstream_head = self.call.deadlines.head_at
        reply = self._reply = observer_for(head, self._counting.budget)
        self.exchange.is_streaming = reply.is_stream
        if self.exchange.trace is not None:
            reply.keep_steps()
        if not reply.is_stream:
            self.call.deadlines.is_first_event_seen = True
        self.call.observer = reply
        try:
            check_head(head)
        except UpstreamBadReply:
            if reply.is_stream:  # a run has begun, which would go on unseen
                self.abort()
            raise

    def on_client_left(self) -> None:
        """Flowise does not notice it and would go on to the last token."""
        self.exchange.ended(Outcome.CLIENT_CLOSED)
        self._in_flight.look_soon(self)
        route = self.exchange.route
        if self._in_flight.is_draining or (route is not None and route.on_disconnect == "abort"):
            self.abort()

    def on_client_paused(self) -> None:
        self._in_flight.look_soon(self)

    def on_deadline(self, deadline: Deadline) -> None:
        self._close_soon(Outcome.TIMEOUT, UpstreamTimeout(deadline.message), f"deadline: {deadline}")

    def on_over(self, end: BodyEnd | GatewayError) -> None:
        self.exchange.timings.upstream_ended = monotonic()
        self._in_flight.discard(self)
        self._open[0] -= 1
        if self._reply is None:
            note_server(self.exchange, self.call.connector)
        status = 0 if self._reply is None else self._reply.status
        self.exchange.upstream_result = upstream_result(end, status, self.exchange.outcome)
        self.exchange.failure = None if self._reply is None else self._reply.failure()
        self.exchange.ended(self._outcome(end), self.call.broken_by)
        self._learn()
        if self.exchange.admissions:
            self.exchange.release_slots()
        if self._abort is None:
            self._release_conversation()
        source = None if isinstance(end, UnknownRoute) else self._usage_source()
        if self._abort is not None or (source is not None and source.is_heavy):
            self._tasks.start(self._settle_later(source), "settle")
        else:
            self._settle(self._counted(source))

    def refuse(self, error: UpstreamBadReply) -> None:
        """The reply, or what has come of it, is none for a client: end the run."""
        if not self.call.is_over:
            self._is_closed_by_us = True
            self.abort()
            self.call.close(error)
        if not self.call.broken_by:
            self.exchange.upstream_result = upstream_result(error, 0, None)

    # -- InFlightCall ------------------------------------------------------------------------------

    def abort(self) -> None:
        """Ask Flowise to stop, once, if the request was sent."""
        if self._abort is None and not self.call.is_over and self.call.is_sent and self.exchange.may_abort:
            self._begin_abort()

    def terminate(self, error: GatewayError) -> None:
        self._close_soon(Outcome.REFUSED, error, error.for_log)

    def close_now(self, error: GatewayError) -> None:
        self._is_closed_by_us = True
        self._terminate(Outcome.REFUSED if self._reply is None else Outcome.TRUNCATED, error, error.code)
        self.call.close()

    def tick(self, now: float) -> float:
        again = self.call.tick(now)
        if not self._is_doubted and self.call.deadlines.is_head_late(now) and not self.call.is_over:
            self._is_doubted = True
            self._tasks.start(self._end_if_missing(), "chatflow")
        is_answered = self._is_abort_taken and self._abort is not None and self._abort.done()
        may_repeat = is_answered and self._aborts < ABORTS and self.exchange.may_abort
        if may_repeat and not self.call.is_over and now >= self._abort_again_at:
            self._begin_abort()
        if self._close_at is not None and now >= self._close_at and not self.call.is_over:
            self._is_closed_by_us = True
            self.call.close()
        return again

    async def _end_if_missing(self) -> None:
        """Flowise never answers a stream whose chatflow was deleted."""
        _, route = self.exchange.matched
        await self._chatflows.look_again(route)
        error = self._chatflows.missing(route)
        if error is not None and not self.call.head.is_set:
            self.call.close(error)

    def _learn(self) -> None:
        exchange = self.exchange
        failure = exchange.failure
        if exchange.flowise_key and (failure is None or failure.kind == WRONG_KEY):
            return  # says nothing about the configured key
        if failure is not None or exchange.outcome in _ANSWERED:
            _, route = exchange.matched
            self._chatflows.learn(route, failure)

    def _close_soon(self, outcome: Outcome, error: GatewayError, reason: str) -> None:
        if self._close_at is None:
            self._close_at = monotonic() + GRACE
            self._in_flight.look_soon(self)
            self._terminate(outcome, error, reason)

    def _terminate(self, outcome: Outcome, error: GatewayError, reason: str) -> None:
        self.exchange.ended(outcome, reason)
        self.call.terminate(error)
        self.abort()

    def _begin_abort(self) -> None:
        self._aborts += 1
        self._abort_again_at = monotonic() + ABORT_AGAIN * self._aborts
        self._abort = self._tasks.start(self._send_abort(), "abort")

    async def _send_abort(self) -> None:
        exchange = self.exchange
        if exchange.route is not None:
            self._abort_failure = await flowise_api.abort(
                self._upstream, self.server, exchange.route, exchange.chat_id, identity_of(exchange)
            )
            self._is_abort_taken = not self._abort_failure

    # -- settlement --------------------------------------------------------------------------------

    async def _settle_later(self, source: UsageSource | None) -> None:
        heavy = source if source is not None and source.is_heavy else None
        usage, is_counted = (self._counted(source), True) if heavy is None else (None, False)
        try:
            if self._abort is not None:
                await asyncio.wait([self._abort])
            if heavy is not None:
                usage, is_counted = await self._counting.count_in_thread(heavy, self._seen), True
        finally:  # also if the process ends before it is counted
            self._release_conversation()
            self._settle(usage, is_counted=is_counted)

    def _settle(self, usage: Usage | None, *, is_counted: bool = True) -> None:
        """Without a count the reserved tokens stay spent."""
        exchange, reply = self.exchange, self._reply
        if reply is not None:
            exchange.events, exchange.gaps = reply.events, reply.gaps
            exchange.timings.first_token = reply.first_token_at
            exchange.uncounted = reply.uncounted
            if exchange.trace is not None:
                exchange.nodes = reply.node_evidence()
            reply.release()
        exchange.usage, exchange.bytes_in = usage, self.call.bytes_in
        if is_counted:
            exchange.settle_limits(0 if usage is None else usage.input + usage.output)
        if self._abort is not None:
            exchange.abort = self._abort_result()
            if self._abort_failure:
                exchange.also(f"abort: {self._abort_failure}")
        exchange.run_completed()

    def _release_conversation(self) -> None:
        """Not before an abort was answered: Flowise knows runs by conversation, so it would hit the next one."""
        if self.exchange.release_conversation is not None:
            self.exchange.release_conversation()

    def _counted(self, source: UsageSource | None) -> Usage | None:
        return None if source is None else self._counting.count(source, self._seen)

    @property
    def _seen(self) -> int:
        """Bytes of question and reply."""
        prediction = self.exchange.prediction
        return self.call.bytes_in + (0 if prediction is None else len(prediction.question.encode()))

    def _usage_source(self) -> UsageSource | None:
        """At least the question counts once Flowise has it. None: no token was spent."""
        prediction = self.exchange.prediction
        question = "" if prediction is None else prediction.question
        if self._reply is not None:
            return self._reply.usage_source(question)
        return UsageSource(question_bytes=len(question.encode())) if self.call.is_sent else None

    def _outcome(self, end: BodyEnd | GatewayError) -> Outcome:
        if isinstance(end, GatewayError):
            return of_error(end)
        return Outcome.UPSTREAM_ERROR if self._reply is None else self._reply.outcome(end)

    def _abort_result(self) -> str:
        if not self._is_abort_taken:
            return "failed"
        is_finished = self._reply is not None and self._reply.is_finished
        return "ran_on" if is_finished or self._is_closed_by_us else "stopped"
