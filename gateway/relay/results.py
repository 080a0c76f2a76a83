"""The result label of `upstream_requests_total` (pure): what Flowise did with a request, not how the client's ended."""

from __future__ import annotations

from gateway.errors import GatewayError, UnknownRoute, UpstreamBadReply, UpstreamTimeout, UpstreamUnreachable
from gateway.flowise.outcome import Outcome
from gateway.upstream.response_parser import BodyEnd

_BY_ERROR: tuple[tuple[type[GatewayError], str], ...] = (
    (UnknownRoute, "client_error"),  # Flowise has no such chatflow, and would never have answered
    (UpstreamTimeout, "timeout"),
    (UpstreamBadReply, "bad_reply"),
)
_ENDED_HERE = (Outcome.CLIENT_CLOSED, Outcome.REFUSED)


def upstream_result(end: BodyEnd | GatewayError, status: int, outcome: Outcome | None) -> str:
    """The label; empty if the request was not sent.

    Args:
        end: how the reply ended, or why there was none.
        status: of the reply; 0: there was no head.
        outcome: of the client's request, if that ended first.
    """
    if outcome is Outcome.TIMEOUT:
        return "timeout"
    if outcome in _ENDED_HERE and end not in (BodyEnd.WHOLE, BodyEnd.CLOSED):
        return "aborted"
    if isinstance(end, UpstreamUnreachable):
        return end.cause.label
    if isinstance(end, GatewayError):
        return next((result for kind, result in _BY_ERROR if isinstance(end, kind)), "")
    if status >= 400:
        return "server_error" if status >= 500 else "client_error"
    return "broken_off" if end is BodyEnd.CUT else "ok"
