"""What Flowise did with a request, in one word for `upstream_requests_total` (pure).

Not how the client's request ended: that is its outcome.
"""

from __future__ import annotations

from gateway.errors import GatewayError, UpstreamBadReply, UpstreamTimeout, UpstreamUnreachable
from gateway.flowise.outcome import Outcome
from gateway.upstream.response_parser import BodyEnd

_WORDS: tuple[tuple[type[GatewayError], str], ...] = (
    (UpstreamUnreachable, "unreachable"),
    (UpstreamTimeout, "timeout"),
    (UpstreamBadReply, "bad_reply"),
)
_OURS = (Outcome.CLIENT_CLOSED, Outcome.REFUSED)


def upstream_result(end: BodyEnd | GatewayError, status: int, outcome: Outcome | None) -> str:
    """The word; empty if the request never got as far as Flowise.

    Args:
        end: how its reply ended, or why there was none.
        status: of the reply; 0: there was no head.
        outcome: of the client's request, where that ended first.
    """
    if outcome is Outcome.TIMEOUT:
        return "timeout"
    if outcome in _OURS and end not in (BodyEnd.WHOLE, BodyEnd.CLOSED):
        return "aborted"
    if isinstance(end, GatewayError):
        return next((word for kind, word in _WORDS if isinstance(end, kind)), "")
    if status >= 400:
        return "server_error" if status >= 500 else "client_error"
    return "broken_off" if end is BodyEnd.CUT else "ok"
