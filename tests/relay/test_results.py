"""The result label of a request to Flowise, as a table."""

from __future__ import annotations

import pytest

from gateway.causes import EXPIRED
from gateway.errors import Draining, UnknownRoute, UpstreamBadReply, UpstreamTimeout, UpstreamUnreachable
from gateway.flowise.outcome import Outcome
from gateway.relay.results import upstream_result
from gateway.upstream.response_parser import BodyEnd


@pytest.mark.parametrize(
    ("end", "status", "outcome", "result"),
    [
        (BodyEnd.WHOLE, 200, None, "ok"),
        (BodyEnd.CLOSED, 200, None, "ok"),
        (BodyEnd.CUT, 200, None, "broken_off"),
        (BodyEnd.WHOLE, 404, None, "client_error"),
        (BodyEnd.CUT, 404, None, "client_error"),
        (BodyEnd.WHOLE, 500, None, "server_error"),
        (UpstreamUnreachable("x"), 0, None, "unreachable"),
        (UpstreamUnreachable("x", EXPIRED), 0, None, "tls_expired"),
        (UpstreamTimeout("x"), 0, None, "timeout"),
        (UpstreamBadReply("x"), 0, None, "bad_reply"),
        (UnknownRoute("x"), 0, None, "client_error"),
        (Draining("x"), 0, None, ""),
        (BodyEnd.WHOLE, 200, Outcome.TIMEOUT, "timeout"),
        (UpstreamUnreachable("x"), 0, Outcome.TIMEOUT, "timeout"),
        (BodyEnd.CUT, 200, Outcome.CLIENT_CLOSED, "aborted"),
        (BodyEnd.WHOLE, 200, Outcome.CLIENT_CLOSED, "ok"),
        (UpstreamUnreachable("x"), 0, Outcome.CLIENT_CLOSED, "aborted"),
        (BodyEnd.CUT, 200, Outcome.REFUSED, "aborted"),
    ],
)
def test_upstream_result(end, status, outcome, result):
    assert upstream_result(end, status, outcome) == result
