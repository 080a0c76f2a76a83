"""The spans of a request and of its request to Flowise; and what no span may hold."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from gateway.flowise.error_texts import of_text
from gateway.flowise.nodes import Execution, ReadRun
from gateway.flowise.usage import Usage
from gateway.http.trace_context import TraceContext
from gateway.telemetry.span import SpanKindName
from gateway.telemetry.spans import SpanMaker
from gateway.telemetry.trace_records import GivenFeedback, RequestRecord, UpstreamRecord

TRACE, CALLER, SPAN, CHILD = "a" * 32, "b" * 16, "c" * 16, "d" * 16
OFFSET = 1_000_000.0
POLICIES = ("cors", "routing", "limits", "auth")
CALL = UpstreamRecord(
    sent=100.5,
    head=100.6,
    first_token=101.0,
    ended=103.0,
    upstream="main",
    server="flowise.internal:3000",
    result="ok",
    is_run=True,
    is_streaming=True,
    conversation="chat-1",
    usage=Usage(12, 34, "reported"),
    abort="",
    failure=None,
    nodes=None,
    question="",
)


def record(*, marks=5, call=CALL, context=None, **changes):
    context = context or TraceContext(TRACE, CALLER, SPAN, CHILD, True)
    context.marks = [100.0 + number / 10 for number in range(marks)]
    made = RequestRecord(
        context=context,
        is_exported=True,
        has_content=False,
        policies=POLICIES,
        received=100.0,
        ended=102.0,
        method="POST",
        path="/api/v1/prediction/{flow}",
        endpoint="prediction",
        route="support",
        request_id="r-1",
        client="10.0.0.1",
        user_agent="curl/8",
        caller="key:backend",
        auth="api_key",
        status=200,
        outcome="ok",
        is_failed=False,
        error="",
        limited_by="",
        waited=0.0,
        overhead=0.001,
        call=call,
        feedback=None,
    )
    return replace(made, **changes)


def spans(made, run=None):
    numbers = iter(range(1, 1000))
    return list(SpanMaker(OFFSET, lambda: f"{next(numbers):016x}").of_request(made, run or ReadRun()))


def test_the_request_and_its_run():
    request, run = spans(record(), ReadRun(message_id="m-1"))
    assert (request.name, request.kind) == ("POST /api/v1/prediction/{flow}", SpanKindName.SERVER)
    assert (request.trace_id, request.span_id, request.parent_id) == (TRACE, SPAN, CALLER)
    assert (request.began, request.ended, request.error) == (OFFSET + 100, OFFSET + 102, None)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/api/v1/prediction/{flow}",
        "http.response.status_code": 200,
        "client.address": "10.0.0.1",
        "user_agent.original": "curl/8",
        "flowise_gateway.route": "support",
        "flowise_gateway.endpoint": "prediction",
        "flowise_gateway.request_id": "r-1",
        "flowise_gateway.caller": "key:backend",
        "flowise_gateway.auth": "api_key",
        "flowise_gateway.outcome": "ok",
        "flowise_gateway.overhead": 0.001,
    }
    assert (run.name, run.kind) == ("invoke_workflow support", SpanKindName.CLIENT)
    assert (run.trace_id, run.span_id, run.parent_id) == (TRACE, CHILD, SPAN)
    assert (run.began, run.ended) == (OFFSET + 100.5, OFFSET + 103)  # longer than its client waited
    assert [one.name for one in run.events] == ["response head", "first token"]
    assert [one.at - OFFSET for one in run.events] == pytest.approx([100.6, 101.0])
    assert run.attributes == {
        "http.request.method": "POST",
        "server.address": "flowise.internal",
        "server.port": 3000,
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "support",
        "gen_ai.request.stream": True,
        "gen_ai.conversation.id": "chat-1",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 34,
        "gen_ai.response.time_to_first_chunk": 0.5,
        "flowise_gateway.upstream": "main",
        "flowise_gateway.upstream.result": "ok",
        "flowise_gateway.token_source": "reported",
        "flowise.message.id": "m-1",
    }


def results(made):
    request = spans(made)[0]
    return [(one.name, one.attributes["flowise_gateway.policy.result"]) for one in request.events]


def test_each_policy_is_an_event():
    request = spans(record())[0]
    assert [one.name for one in request.events] == [f"policy {name}" for name in POLICIES]
    assert [one.at for one in request.events] == pytest.approx([OFFSET + 100 + n / 10 for n in range(4)])
    taken = [one.attributes["flowise_gateway.policy.duration"] for one in request.events]
    assert taken == pytest.approx([0.1] * 4)
    assert results(record()) == [(f"policy {name}", "passed") for name in POLICIES]


def test_the_policy_that_refuses_names_its_error():
    refused = record(
        marks=3,
        call=None,
        status=429,
        outcome="refused",
        error="rate_limited: Too many requests.",
        limited_by="burst",
    )
    assert results(refused) == [
        ("policy cors", "passed"),
        ("policy routing", "passed"),
        ("policy limits", "rate_limited"),
    ]
    (request,) = spans(refused)
    assert (request.error, request.attributes["error.type"]) == (None, "rate_limited")
    assert request.attributes["flowise_gateway.limited_by"] == "burst"
    assert request.events[-1].attributes["flowise_gateway.policy.duration"] == pytest.approx(1.8)


def test_a_policy_that_answers_or_is_left():
    assert results(record(marks=1, call=None, status=204)) == [("policy cors", "answered")]
    left = record(marks=1, call=None, status=499, outcome="client_closed", error="the client left")
    assert results(left) == [("policy cors", "client_closed")]


def test_a_failure_is_one_of_both_spans_and_says_what_flowise_said_only_with_content():
    failure = of_text("Error: predictionsServices.buildChatflow - 400 your secret prompt")
    failed = record(
        outcome="error_event", is_failed=True, error="", call=replace(CALL, failure=failure, result="ok")
    )
    request, run = spans(failed)
    assert (request.error, run.error) == ("error_event", "model_400")
    assert (request.attributes["error.type"], run.attributes["flowise.error.kind"]) == (
        "error_event",
        "model_400",
    )
    assert "secret" not in str((request, run))
    failed.has_content = True
    assert "secret" in spans(failed)[1].error


def test_a_request_to_flowise_that_is_no_run():
    call = replace(
        CALL, is_run=False, is_streaming=False, usage=None, first_token=None, result="client_error"
    )
    request, sent = spans(
        record(endpoint="leads", path="/api/v1/leads", status=400, outcome="upstream_error", call=call)
    )
    assert (sent.name, sent.kind, sent.error) == ("POST /api/v1/leads", SpanKindName.CLIENT, None)
    assert sent.attributes["error.type"] == "client_error"
    assert not [name for name in sent.attributes if name.startswith("gen_ai")]
    assert request.attributes["error.type"] == "upstream_error"


def test_a_request_without_an_endpoint_and_with_a_method_of_its_own():
    (request,) = spans(
        record(call=None, method="BREW", path="", endpoint="none", route="none", status=404, marks=0)
    )
    assert (request.name, request.attributes["http.request.method"]) == ("HTTP", "_OTHER")
    assert request.events == []


def test_a_caller_that_is_not_continued_is_linked():
    context = TraceContext(TRACE, "", SPAN, CHILD, True, linked=("e" * 32, "f" * 16))
    request = spans(record(context=context))[0]
    assert (request.parent_id, request.links) == ("", [("e" * 32, "f" * 16)])


def test_content_is_in_a_span_only_if_it_is_given():
    call = replace(CALL, question="how much?")
    run = ReadRun((Execution("a", output="that much"),))
    sent = spans(record(call=call, has_content=True), run)[1]
    assert json.loads(sent.attributes["gen_ai.input.messages"])[0]["parts"][0]["content"] == "how much?"
    assert json.loads(sent.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"] == "that much"


def test_a_thumb_whose_answer_is_not_known_here_names_it():
    (request,) = spans(record(call=None, feedback=GivenFeedback("m-1", "f-1", "THUMBS_UP")))
    assert request.attributes["flowise.message.id"] == "m-1"
    assert request.attributes["gen_ai.evaluation.score.label"] == "THUMBS_UP"


def test_a_thumb_is_a_span_in_the_trace_of_its_answer():
    thumb = GivenFeedback("m-1", "f-1", "THUMBS_DOWN", "too long")
    made = SpanMaker(OFFSET, lambda: "9" * 16).of_feedback(record(), thumb, ("e" * 32, "f" * 16))
    assert (made.trace_id, made.parent_id, made.links) == ("e" * 32, "f" * 16, [(TRACE, SPAN)])
    (event,) = made.events
    assert (event.name, event.attributes) == (
        "gen_ai.evaluation.result",
        {
            "gen_ai.evaluation.name": "user_feedback",
            "gen_ai.evaluation.score.label": "THUMBS_DOWN",
            "gen_ai.evaluation.score.value": 0.0,
            "gen_ai.evaluation.explanation": "too long",
        },
    )
