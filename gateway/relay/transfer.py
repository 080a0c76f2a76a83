"""A transfer: a call to Flowise that is no prediction. It ends when its client leaves."""

from __future__ import annotations

from http import HTTPStatus
from time import monotonic

from gateway.errors import GatewayError, UpstreamBadReply, UpstreamTimeout
from gateway.exchange import Exchange
from gateway.flowise.endpoints import Purpose
from gateway.flowise.outcome import Outcome, of_answer, of_error
from gateway.relay.call import UpstreamCall
from gateway.relay.deadlines import Deadline, Deadlines
from gateway.relay.outgoing import check_head, note_server
from gateway.relay.registry import InFlight
from gateway.relay.results import upstream_result
from gateway.upstream.choice import Connector
from gateway.upstream.response_parser import BodyEnd, ResponseHead
from gateway.upstream.server import Server


class Transfer:
    """The listener of its call."""

    is_run = False

    def __init__(
        self, exchange: Exchange, deadlines: Deadlines, connector: Connector, in_flight: InFlight
    ) -> None:
        self.exchange = exchange
        self.call = UpstreamCall(self, deadlines, connector)
        self._in_flight = in_flight
        self._status = 0
        in_flight.add(self)

    @property
    def has_client(self) -> bool:
        return not self.call.delivered.is_set

    @property
    def server(self) -> Server:
        return self.call.connector.server

    @property
    def progress(self) -> None:
        """None: it is no run."""

    def tick(self, now: float) -> float:
        return self.call.tick(now)

    # -- CallListener ------------------------------------------------------------------------------

    def on_head(self, head: ResponseHead) -> None:
        self._status = head.status
        note_server(self.exchange, self.call.connector)
        self.exchange.timings.upstream_head = self.call.deadlines.head_at
        self.call.deadlines.is_first_event_seen = True  # has no events
        match, _ = self.exchange.matched
        if match.endpoint.purpose is Purpose.STORE and head.status == HTTPStatus.UNAUTHORIZED:
            raise UpstreamBadReply(  # as a 401 the client would blame its own credential (vector-upsert-no-key)
                "Flowise stores documents for an API key of its workspace only. The upstream's api_key must be one."
            )
        check_head(head, may_be_unmodified=True, may_be_html=match.endpoint.purpose is Purpose.FILE)

    def on_client_left(self) -> None:
        self.exchange.ended(Outcome.CLIENT_CLOSED)
        self.call.close()

    def on_client_paused(self) -> None:
        self._in_flight.look_soon(self)

    def on_deadline(self, deadline: Deadline) -> None:
        self.exchange.ended(Outcome.TIMEOUT)
        self.close_now(UpstreamTimeout(deadline.message))

    def on_over(self, end: BodyEnd | GatewayError) -> None:
        self.exchange.timings.upstream_ended = monotonic()
        self._in_flight.discard(self)
        if not self._status:
            note_server(self.exchange, self.call.connector)
        self.exchange.bytes_in = self.call.bytes_in
        self.exchange.upstream_result = upstream_result(end, self._status, self.exchange.outcome)
        self.exchange.ended(self._outcome(end), self.call.broken_by)

    # -- InFlightCall ------------------------------------------------------------------------------

    def abort(self) -> None:
        """Flowise has nothing to stop."""

    def terminate(self, error: GatewayError) -> None:
        """What still comes is of no use, so it is closed at once."""
        self.close_now(error)

    def close_now(self, error: GatewayError) -> None:
        self.call.terminate(error)
        self.call.close(error)

    def _outcome(self, end: BodyEnd | GatewayError) -> Outcome:
        if isinstance(end, GatewayError):
            return of_error(end)
        if end is BodyEnd.CUT:
            return Outcome.TRUNCATED
        return of_answer(self._status, is_whole=True)
