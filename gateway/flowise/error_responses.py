"""Errors in the shape that each kind of Flowise client displays (pure).

The default is Flowise's own JSON; `Accept: application/problem+json` gives RFC 9457. The widget sends
`Accept: text/event-stream`: it prints the body of a 401, 403 or 429 and displays nothing for any other status, so it
gets all others as a 200 stream of `error` and `end`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from gateway.errors import GatewayError
from gateway.flowise.events import END_EVENT, error_event

EVENT_STREAM = "text/event-stream"
PROBLEM = "application/problem+json"
MAX_ACCEPT = 1024  # bytes of all Accept fields that are looked at; browsers send up to 200
_WIDGET_PRINTS = frozenset({401, 403, 429})


class ErrorResponse(Struct, frozen=True):
    """What is written in place of an answer of Flowise."""

    status: int
    headers: dict[str, str]
    body: bytes


def error_response(
    error: GatewayError, request_id: str, accept: Sequence[str] = (), *, is_run: bool = False
) -> ErrorResponse:
    """The response for an error before the head. `accept`: the Accept fields; `is_run`: of a prediction."""
    types = ",".join(accept)[:MAX_ACCEPT].lower()
    if is_run and _names(types, EVENT_STREAM):
        return _for_widget(error)
    headers = {"Cache-Control": "no-store", **error.headers}
    if _names(types, PROBLEM):
        return ErrorResponse(error.status, {"Content-Type": PROBLEM, **headers}, _problem(error, request_id))
    body = {
        "statusCode": error.status,
        "success": False,
        "message": error.message,
        "code": error.code,
        "requestId": request_id,
    }
    content_type = {"Content-Type": "application/json; charset=utf-8"}
    return ErrorResponse(error.status, {**content_type, **headers}, msgspec.json.encode(body))


def _names(accept: str, media_type: str) -> bool:
    """Whether an Accept header names the media type with a weight above zero (RFC 9110 12.5.1)."""
    if media_type not in accept:
        return False
    for part in accept.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name == media_type and not any(map(_is_zero, parameters)):
            return True
    return False


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().rstrip("0") in ("", "0.", "0", ".")


def _for_widget(error: GatewayError) -> ErrorResponse:
    if error.status in _WIDGET_PRINTS:
        headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", **error.headers}
        return ErrorResponse(error.status, headers, error.message.encode())
    headers = {
        "Content-Type": EVENT_STREAM,
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",
        "X-Gateway-Status": str(error.status),
        **error.headers,
    }
    return ErrorResponse(200, headers, error_tail(error.message))


def _problem(error: GatewayError, request_id: str) -> bytes:
    problem: dict[str, object] = {
        "type": error.problem_type,
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "instance": f"urn:request:{request_id}",
        "code": error.code,
        "requestId": request_id,
    }
    if error.policies:
        problem["violated-policies"] = list(error.policies)
    return msgspec.json.encode(problem)


def error_tail(message: str) -> bytes:
    """The end of a stream that broke off: an `error` and an `end`, as Flowise writes them."""
    return error_event(message) + END_EVENT
