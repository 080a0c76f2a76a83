"""How a request ended, in one word for log and metrics (pure; the words of DESIGN 5).

Success is told by the events, never by the status: Flowise says its errors inside a 200 stream. Who left
first and which deadline passed is known elsewhere.
"""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus
from typing import Protocol

from gateway.errors import GatewayError


class Outcome(StrEnum):
    """Every way in which a request can end."""

    OK = "ok"
    ERROR_EVENT = "error_event"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    UPSTREAM_ERROR = "upstream_error"
    TIMEOUT = "timeout"
    CLIENT_CLOSED = "client_closed"
    REFUSED = "refused"
    FAILED = "failed"


class StreamFacts(Protocol):
    """What was seen in a stream (`StreamObserver`)."""

    @property
    def has_error(self) -> bool:
        """An `error` event."""

    @property
    def has_end(self) -> bool:
        """An `end` event."""

    @property
    def has_metadata(self) -> bool:
        """A `metadata` event."""

    @property
    def has_content(self) -> bool:
        """Something for the reader."""


def of_stream(facts: StreamFacts) -> Outcome:
    """Tell how a 200 stream ended that nobody of ours ended.

    How its body ended does not matter: after `end` nothing is missing, and without it something is, also when
    the body closed cleanly. An `end` without `metadata` and `error` is an answer whose last part is missing.
    """
    if facts.has_error:
        return Outcome.ERROR_EVENT
    if not (facts.has_end and facts.has_metadata):
        return Outcome.TRUNCATED
    return Outcome.OK if facts.has_content else Outcome.EMPTY


def of_answer(status: int, *, is_whole: bool) -> Outcome:
    """Tell how an answer ended that was no stream. `is_whole`: its body ended as its framing promised."""
    if status >= HTTPStatus.BAD_REQUEST:
        return Outcome.UPSTREAM_ERROR
    return Outcome.OK if is_whole else Outcome.TRUNCATED


def of_error(error: GatewayError) -> Outcome:
    """Tell what an error of ours before the head means."""
    if error.status == HTTPStatus.GATEWAY_TIMEOUT:
        return Outcome.TIMEOUT
    if error.status == HTTPStatus.BAD_GATEWAY:
        return Outcome.UPSTREAM_ERROR
    return Outcome.FAILED if error.status == HTTPStatus.INTERNAL_SERVER_ERROR else Outcome.REFUSED
