"""Each kind of client gets errors in the shape that it displays."""

from __future__ import annotations

import json

import pytest

from gateway.errors import BadRequest, Forbidden, RateLimited, Unauthenticated, UpstreamTimeout
from gateway.flowise.error_responses import MAX_ACCEPT, error_response, error_tail

STREAM = "text/event-stream"
LIMITED = RateLimited("wait", headers={"Retry-After": "3"}, policies=["daily"])


def test_json_is_the_default():
    said = error_response(LIMITED, "id", ["*/*"], is_run=True)
    assert (said.status, said.headers) == (
        429,
        {"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store", "Retry-After": "3"},
    )
    assert said.body == (
        b'{"statusCode":429,"success":false,"message":"wait","code":"rate_limited","requestId":"id"}'
    )


def test_problem_document():
    said = error_response(LIMITED, "id", ["application/problem+json"], is_run=True)
    assert (said.status, said.headers["Content-Type"], said.headers["Retry-After"]) == (
        429,
        "application/problem+json",
        "3",
    )
    assert json.loads(said.body) == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded", "title": "Rate limited",
        "status": 429, "detail": "wait", "instance": "urn:request:id", "code": "rate_limited", "requestId": "id",
        "violated-policies": ["daily"],
    }  # fmt: skip


@pytest.mark.parametrize("error", [Unauthenticated("no"), Forbidden("no"), RateLimited("no")])
def test_the_widget_prints_these(error):
    said = error_response(error, "id", [STREAM], is_run=True)
    assert (said.status, said.headers["Content-Type"], said.body) == (
        error.status,
        "text/plain; charset=utf-8",
        b"no",
    )


@pytest.mark.parametrize("error", [BadRequest('a "b"\n'), UpstreamTimeout('a "b"\n')])
def test_the_widget_gets_a_stream_for_others(error):
    said = error_response(error, "id", ["a/b", f"{STREAM}, */*"], is_run=True)
    assert (said.status, said.headers["X-Gateway-Status"], said.headers["Content-Type"]) == (
        200,
        str(error.status),
        STREAM,
    )
    assert said.body == (
        b'message:\ndata:{"event":"error","data":"a \\"b\\"\\n"}\n\nmessage:\ndata:{"event":"end","data":"[DONE]"}\n\n'
    )
    assert said.body == error_tail('a "b"\n')


def test_a_stream_is_for_predictions_only():
    assert error_response(BadRequest("x"), "id", [STREAM], is_run=False).status == 400


@pytest.mark.parametrize(
    ("header", "is_stream"),
    [
        ("", False), ("Text/Event-Stream", True), ("text/event-stream;q=0, c/d", False),
        ("text/event-stream;q=0.0", False), ("text/event-stream ; q=0.5;x=y", True),
        ("text/event-stream;q=0.001", True), ("text/event-stream; q=0.", False), ("text/event-streams", False),
        ("a/b;x=text/event-stream", False), ("text/event-stream;q=0,text/event-stream", True),
    ],
)  # fmt: skip
def test_a_type_is_accepted_if_it_is_named_with_a_weight(header, is_stream):
    assert (error_response(BadRequest("x"), "id", [header], is_run=True).status == 200) is is_stream


def test_an_accept_header_is_looked_at_up_to_a_bound():
    fill = "a/b," * (MAX_ACCEPT // 4)
    assert error_response(BadRequest("x"), "id", [fill, STREAM], is_run=True).status == 400
    assert error_response(BadRequest("x"), "id", [fill[40:], STREAM], is_run=True).status == 200
