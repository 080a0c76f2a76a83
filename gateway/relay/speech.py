"""Speech: a text-to-speech stream. Flowise goes on when its client has left, so it is asked to stop then.

That request would end an answer of the same conversation, too (capture speech-abort-run). So it is sent under the lock
of the conversation, or not at all.
"""

from __future__ import annotations

from time import monotonic
from typing import NamedTuple

from gateway.admission.locks import ConversationLocks
from gateway.aio import Tasks
from gateway.errors import ConversationBusy, GatewayError
from gateway.exchange import Exchange
from gateway.flowise.outcome import Outcome, of_error, of_speech
from gateway.flowise.raw_json import encode
from gateway.flowise.speech import SpeechObserver
from gateway.relay.deadlines import Deadlines
from gateway.relay.outgoing import check_head, identity_of, note_server
from gateway.relay.registry import InFlight
from gateway.relay.transfer import Transfer
from gateway.upstream import flowise_api
from gateway.upstream.choice import Connector
from gateway.upstream.origins import Origins
from gateway.upstream.response_parser import BodyEnd, ResponseHead
from gateway.upstream.upstream import Upstream


class SpeechServices(NamedTuple):
    """What every speech uses. `origins`: what the conversations of each upstream belong to."""

    in_flight: InFlight
    locks: ConversationLocks
    origins: Origins
    tasks: Tasks


class Speech(Transfer):
    """The listener of its call. The exchange is complete when Flowise has answered the request to stop."""

    def __init__(
        self,
        exchange: Exchange,
        deadlines: Deadlines,
        connector: Connector,
        upstream: Upstream,
        services: SpeechServices,
    ) -> None:
        super().__init__(exchange, deadlines, connector, services.in_flight)
        self._upstream = upstream
        self._services = services
        self._seen = SpeechObserver()
        self._is_stopping = self._is_over = False
        exchange.run_started()

    # -- CallListener ------------------------------------------------------------------------------

    def on_head(self, head: ResponseHead) -> None:
        self._status = head.status
        note_server(self.exchange, self.call.connector)
        self.exchange.timings.upstream_head = self.call.deadlines.head_at
        check_head(head)
        is_stream = head.get(b"content-type").lower().startswith(b"text/event-stream")
        self.exchange.is_streaming = is_stream and head.status == 200
        if self.exchange.is_streaming:
            self.call.observer = self._seen
        else:
            self.call.deadlines.is_first_event_seen = True

    def on_client_left(self) -> None:
        self.exchange.ended(Outcome.CLIENT_CLOSED)
        self._stop()
        self.call.close()

    def on_over(self, end: BodyEnd | GatewayError) -> None:
        exchange = self.exchange
        if exchange.timings.upstream_head is not None:
            exchange.tts_seconds = monotonic() - exchange.timings.upstream_head
        exchange.events = self._seen.events
        super().on_over(end)
        self._is_over = True
        self._complete()

    # -- InFlightCall ------------------------------------------------------------------------------

    def abort(self) -> None:
        """Ask Flowise to stop reading."""
        self._stop()

    def close_now(self, error: GatewayError) -> None:
        self._stop()
        super().close_now(error)

    # -- the request to stop -----------------------------------------------------------------------

    def _stop(self) -> None:
        if not self._is_stopping and not self._is_over and not self._seen.has_end and self.call.is_sent:
            self._is_stopping = True
            self._services.tasks.start(self._send_stop(), "abort of speech")

    async def _send_stop(self) -> None:
        try:
            failure = await self._ask_to_stop()
            self.exchange.abort = "failed" if failure else "stopped"
            if failure:
                self.exchange.also(f"abort: {failure}")
        finally:
            self._is_stopping = False
            self._complete()

    async def _ask_to_stop(self) -> str:
        """Why Flowise was not asked, or did not agree; empty if it did."""
        exchange = self.exchange
        _, route = exchange.matched
        if exchange.document is None or exchange.chat_id is None:
            return "the conversation is not known"
        try:
            key = (self._services.origins[self._upstream.name], exchange.chat_id)
            release = await self._services.locks.acquire(key, 0.0)
        except ConversationBusy:
            return "an answer of the conversation is running, which would end with the speech"
        message = exchange.document.texts["chatMessageId"]
        names = {"chatflowId": route.chatflow, "chatId": exchange.chat_id, "chatMessageId": message}
        try:
            return await flowise_api.abort_speech(
                self._upstream, self.call.connector.server, encode(names), identity_of(exchange)
            )
        finally:
            release()

    def _complete(self) -> None:
        """Once both are over: the call, and the request to stop it."""
        if self._is_over and not self._is_stopping and self.exchange.is_run_open:
            self.exchange.settle_limits(0)
            self.exchange.run_completed()

    def _outcome(self, end: BodyEnd | GatewayError) -> Outcome:
        if isinstance(end, GatewayError):
            return of_error(end)
        return of_speech(self._seen) if self.exchange.is_streaming else super()._outcome(end)
