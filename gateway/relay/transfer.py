"""A transfer: a call to Flowise that is no prediction. Nobody needs its reply once the client has left."""

from __future__ import annotations

from gateway.errors import GatewayError, UpstreamTimeout
from gateway.exchange import Exchange
from gateway.flowise.outcome import Outcome, of_error
from gateway.relay.call import Call
from gateway.relay.deadlines import Deadline, Deadlines
from gateway.relay.registry import InFlight
from gateway.relay.results import upstream_result
from gateway.relay.run import TOLD
from gateway.upstream.response_parser import BodyEnd, ResponseHead


class Transfer:
    """The owner of one call."""

    def __init__(self, exchange: Exchange, deadlines: Deadlines, calls: InFlight) -> None:
        self.exchange = exchange
        self.call = Call(self, deadlines)
        self._calls = calls
        self._status = 0
        calls.add(self)

    @property
    def has_client(self) -> bool:
        """Whether somebody still waits for the reply."""
        return not self.call.delivered.is_set

    def on_head(self, head: ResponseHead) -> None:
        """Flowise answers."""
        self._status = head.status
        self.exchange.timings.upstream_head = self.call.deadlines.head_at
        self.call.deadlines.is_first_event_seen = True

    def on_client_left(self) -> None:
        """Nobody waits any more."""
        self.exchange.outcome = self.exchange.outcome or Outcome.CLIENT_CLOSED
        self.call.close()

    def on_deadline(self, deadline: Deadline) -> None:
        """Too long."""
        self.exchange.outcome = self.exchange.outcome or Outcome.TIMEOUT
        self._end(UpstreamTimeout(TOLD[deadline]))

    def on_over(self, end: BodyEnd | GatewayError) -> None:
        """The reply is over."""
        self._calls.discard(self)
        self.exchange.upstream_result = upstream_result(end, self._status, self.exchange.outcome)
        if self.exchange.outcome is None:
            self.exchange.outcome = self._outcome(end)

    def abort(self) -> None:
        """Nothing in Flowise needs to be stopped."""

    def end_now(self, error: GatewayError) -> None:
        """The drain is over."""
        self._end(error)

    def turn_away(self, error: GatewayError) -> None:
        """Its caller may not go on."""
        self._end(error)

    def tick(self, now: float) -> None:
        """Time passes. `now`: monotonic seconds."""
        self.call.tick(now)

    def _end(self, error: GatewayError) -> None:
        self.call.fail(error)
        self.call.tell(error.message)
        self.call.close(error)

    def _outcome(self, end: BodyEnd | GatewayError) -> Outcome:
        if isinstance(end, GatewayError):
            return of_error(end)
        if end is BodyEnd.CUT:
            return Outcome.TRUNCATED
        return Outcome.OK if self._status < 400 else Outcome.UPSTREAM_ERROR
