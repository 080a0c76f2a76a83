"""What a call reports to its listener, and what it has its client's body written by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.errors import GatewayError
from gateway.relay.deadlines import Deadline
from gateway.upstream.response_parser import BodyEnd, ResponseHead


class CallListener(Protocol):
    """What a call reports, synchronously."""

    def on_head(self, head: ResponseHead) -> None:
        """The last chance to set the call's observer.

        Raises:
            UpstreamBadReply: this is no reply for a client; the call ends with it.
        """

    def on_client_left(self) -> None:
        """The client is gone; the reply is still being received."""

    def on_client_paused(self) -> None:
        """The client takes no more at the moment, so that the call is to be ticked again soon."""

    def on_deadline(self, deadline: Deadline) -> None:
        """Called at every tick from then on, until the call is over."""

    def on_over(self, end: BodyEnd | GatewayError) -> None:
        """How the body ended, or why there was no head. Called once."""


class ResponseWriter(Protocol):
    """The client's end of a body."""

    @property
    def feed_chunk(self) -> Callable[[bytes, int], None] | None:
        """As `feed`, for a whole event that came as one chunk: with its framing, and its size without.

        Only where the last read has ended an event, too. None: not here.
        """

    def feed(self, data: bytes) -> None:
        """The body bytes of one read."""

    def end(self, end: BodyEnd, last: bytes = b"", *, is_complete: bool) -> None:
        """The body ended, with these bytes of the last read; `is_complete`: its last event was seen."""

    def terminate(self, message: str) -> None:
        """End the response early, for this reason."""

    def tick(self, now: float) -> float:
        """Write a heartbeat if one is due; return when to call it again. Both are monotonic seconds."""
