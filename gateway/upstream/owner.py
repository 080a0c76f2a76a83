"""Who stands behind a call: the one that owns it, and the one that reads along with its reply."""

from __future__ import annotations

from typing import Protocol

from gateway.errors import GatewayError
from gateway.relay.deadlines import Deadline
from gateway.streaming.ends import BodyEnd
from gateway.upstream.response_parser import ResponseHead


class Observer(Protocol):
    """Who reads along."""

    @property
    def has_end(self) -> bool:
        """Whether the answer's last event was seen."""

    @property
    def first_event_at(self) -> float | None:
        """When the first event came that is not a comment."""

    def feed(self, data: bytes, now: float) -> None:
        """The body bytes of one read."""


class CallOwner(Protocol):
    """Whom a call tells. All calls are synchronous."""

    def on_head(self, head: ResponseHead) -> None:
        """The reply begins; who wants to read along says so now."""

    def on_client_left(self) -> None:
        """Nobody reads the reply any more; it is still being received."""

    def on_deadline(self, deadline: Deadline) -> None:
        """Flowise took too long."""

    def on_over(self, end: BodyEnd | GatewayError) -> None:
        """The reply is over: how its body ended, or why there was no head. Said exactly once."""
