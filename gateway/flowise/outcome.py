"""How a request ended, in one word for log and metrics (pure).

Events decide about success, not the status: Flowise reports errors inside a 200 stream. The relay knows which side
left first and which deadline passed.
"""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus

from gateway.errors import GatewayError
from gateway.flowise.observer import StreamObserver
from gateway.flowise.speech import SpeechObserver


class Outcome(StrEnum):
    """The closed list of values."""

    OK = "ok"
    ERROR_EVENT = "error_event"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    UPSTREAM_ERROR = "upstream_error"
    TIMEOUT = "timeout"
    CLIENT_CLOSED = "client_closed"
    REFUSED = "refused"
    FAILED = "failed"


def of_stream(seen: StreamObserver) -> Outcome:
    """The outcome of a 200 stream that neither the gateway nor the client ended.

    The end of the body does not matter: a stream is complete after `end` and incomplete without it, even if the body
    closed cleanly. Of an `end` without `metadata` and `error` the last part of the answer is missing.
    """
    if seen.has_error:
        return Outcome.ERROR_EVENT
    if not (seen.has_end and seen.has_metadata):
        return Outcome.TRUNCATED
    return Outcome.OK if seen.has_content else Outcome.EMPTY


def of_speech(seen: SpeechObserver) -> Outcome:
    """The outcome of a text-to-speech stream that neither the gateway nor the client ended."""
    if seen.has_error:
        return Outcome.ERROR_EVENT
    if not seen.has_end:
        return Outcome.TRUNCATED
    return Outcome.OK if "tts_data" in seen.events else Outcome.EMPTY


def of_answer(status: int, *, is_whole: bool) -> Outcome:
    """The outcome of a reply that is not a stream. `is_whole`: its body ended as its framing announced."""
    if status >= HTTPStatus.BAD_REQUEST:
        return Outcome.UPSTREAM_ERROR
    return Outcome.OK if is_whole else Outcome.TRUNCATED


def of_error(error: GatewayError) -> Outcome:
    """The outcome of a request that the gateway answered with this error."""
    if error.status == HTTPStatus.GATEWAY_TIMEOUT:
        return Outcome.TIMEOUT
    if error.status == HTTPStatus.BAD_GATEWAY:
        return Outcome.UPSTREAM_ERROR
    return Outcome.FAILED if error.status == HTTPStatus.INTERNAL_SERVER_ERROR else Outcome.REFUSED
