"""How an error is said so that each kind of client of Flowise shows it (pure).

Flowise's own JSON shape by default, RFC 9457 for who asks for it; the widget prints the body of a 401, 403
or 429 and shows nothing at all for other statuses, so it gets those as a stream (PROTOCOL 6.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from gateway.errors import GatewayError
from gateway.flowise.events import END_EVENT, error_event

EVENT_STREAM = "text/event-stream"
PROBLEM = "application/problem+json"
_PRINTED_BY_THE_WIDGET = frozenset({401, 403, 429})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response: status, header fields, body."""

    status: int
    headers: dict[str, str]
    body: bytes


def accepted(header: str) -> frozenset[str]:
    """The media types that an Accept field names with a weight above zero (RFC 9110, 12.5.1)."""
    types = set()
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if not any(_is_zero(parameter) for parameter in parameters):
            types.add(name)
    return frozenset(types)


def refusal(error: GatewayError, request_id: str, accept: str, *, is_prediction: bool) -> Refusal:
    """The answer to a request that was refused with this error."""
    types = accepted(accept)
    if is_prediction and EVENT_STREAM in types:
        return _for_the_widget(error)
    headers = {"Cache-Control": "no-store", **error.headers}
    if PROBLEM in types:
        return Refusal(error.status, {"Content-Type": PROBLEM, **headers}, _problem(error, request_id))
    body = {
        "statusCode": error.status,
        "success": False,
        "message": error.message,
        "code": error.code,
        "requestId": request_id,
    }
    content_type = {"Content-Type": "application/json; charset=utf-8"}
    return Refusal(error.status, {**content_type, **headers}, msgspec.json.encode(body))


def error_tail(message: str) -> bytes:
    """What completes a stream that broke off: an `error` and an `end`, as Flowise would write them."""
    return error_event(message) + END_EVENT


def _for_the_widget(error: GatewayError) -> Refusal:
    if error.status in _PRINTED_BY_THE_WIDGET:
        headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", **error.headers}
        return Refusal(error.status, headers, error.message.encode())
    headers = {
        "Content-Type": EVENT_STREAM,
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",
        "X-Gateway-Status": str(error.status),
        **error.headers,
    }
    return Refusal(200, headers, error_tail(error.message))


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


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().rstrip("0") in ("", "0.", "0", ".")
