"""Which kind of failure an error text reports, and which texts may stand in the log."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.flowise.error_texts import (
    READ,
    SHOWN,
    FlowiseFailure,
    message,
    missing_chatflow,
    of_reply,
    of_text,
)
from gateway.flowise.events import event_text
from gateway.flowise.observer import StreamObserver
from tests.harness.captured_streams import captured
from tests.harness.captures import load

FLOW = "2c5e8d0a-1111-4222-8333-444455556666"
OF_A_RUN = "Error: predictionsServices.buildChatflow - "
WEBHOOK = f"This flow is configured as a Webhook Trigger. Call POST /api/v1/webhook/{FLOW} instead of the prediction API."
SCHEDULE = (
    "This flow is configured as a Scheduled Trigger. It is fired by the scheduler and cannot be invoked via the API. "
    "Change the Start node Input Type to Chat or Form to call it from the prediction API."
)

FIXED = [
    ("wrong_key", "Unauthorized"),
    ("not_found", f"Chatflow {FLOW} not found"),
    ("not_found", f"Chatflow {FLOW} not found in the database!"),
    ("not_found", "Invalid Chatflow ID"),
    ("not_found", f"Workspace {FLOW} not found"),
    ("rate_limit", "Predictions limit exceeded"),
    ("trigger", WEBHOOK),
    ("trigger", SCHEDULE),
    ("request", "Invalid chatId: must be a string"),
    ("request", "Question and form cannot be provided at the same time"),
    (
        "model_key",
        "401 Unauthorized \u2013 check your API key and ensure it has access to the requested model.",
    ),
    ("origin", "This site is not allowed to access this chatbot"),
    ("aborted", "Aborted"),
    ("aborted", "Error in LLM node: This operation was aborted"),
    ("model_connection", "Error in Agent node: terminated"),
    ("model_connection", "terminated"),
    ("iterations", "Maximum iteration limit reached"),
    ("queue", "Job execution failed"),
]


@pytest.mark.parametrize("prefix", ["", OF_A_RUN])
@pytest.mark.parametrize(("kind", "text"), FIXED)
def test_a_fixed_sentence_may_be_logged(kind, text, prefix):
    failure = of_text(prefix + text)
    assert (failure.kind, failure.may_be_logged) == (kind, True)
    shown = prefix + text if len(prefix + text) <= SHOWN else (prefix + text)[: SHOWN - 1] + "…"
    assert failure.described(with_text=False) == f"{kind} ({shown})"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("model_400", "400 the prompt 'SECRET' is not allowed"),
        ("model_503", f"{OF_A_RUN}Error in LLM node: 503 SECRET"),
        ("other", f"{OF_A_RUN}SECRET"),
        ("other", "No previous execution found for session SECRET"),
        ("other", "Unauthorized SECRET"),
        ("other", "SECRET Unauthorized"),
        ("other", "SECRET\nUnauthorized"),
        ("other", "Chatflow SECRET WORDS not found"),
        ("other", "Chatflow 1 not found SECRET"),
        ("other", "Error in SECRET: node: Aborted"),
        ("other", f"{OF_A_RUN}{OF_A_RUN}Unauthorized"),
        ("other", WEBHOOK + " SECRET"),
        ("other", ""),
    ],
)
def test_any_other_text_is_a_kind(kind, text):
    assert of_text(text).described(with_text=False) == kind


@given(st.text())
def test_no_text_gets_into_the_log_but_fixed_ones(text):
    failure = of_text(text)
    shown = failure.described(with_text=False)
    assert shown == failure.kind or failure.may_be_logged
    assert failure.may_be_logged is (failure.kind in {kind for kind, _ in FIXED})


def test_a_text_is_shown_on_request_on_one_line_and_shortened():
    shown = of_text("a\n\tb " + "x" * 1000).described(with_text=True)
    assert shown == f"other (a b {'x' * (SHOWN - 5)}…)"
    assert of_text("x" * SHOWN).described(with_text=True) == f"other ({'x' * SHOWN})"
    assert FlowiseFailure("other").described(with_text=True) == "other"


def test_the_texts_of_the_captured_streams():
    kinds = {}
    for name, body in captured().items():
        observer = StreamObserver()
        observer.feed(body, 0.0)
        if observer.has_error:
            failure = of_text(event_text(observer.error))
            kinds[name] = (failure.kind, failure.may_be_logged)
    assert kinds["key-wrong-stream"] == ("wrong_key", True)
    assert kinds["stream-chain-chatid-number"] == ("request", True)
    assert kinds["stream-chain-llm-400"] == kinds["stream-agentflow-llm-400"] == ("model_400", False)
    assert kinds["stream-chain-llm-404"] == ("model_404", False)
    assert kinds["stream-chain-llm-401"] == kinds["stream-agentflow-llm-401"] == ("model_key", True)
    assert kinds["abort-agentflow"] == ("aborted", True)
    assert kinds["stream-agentflow-llm-cut-rst"] == ("model_connection", True)
    assert kinds["stream-chain-llm-cut-error"] == ("other", False)
    assert kinds["question-and-form-stream"] == ("request", True)


@pytest.mark.parametrize(
    ("capture", "status", "kind", "may_be_logged"),
    [
        ("key-none-nonstream", 500, "wrong_key", True),
        ("unknown-nonstream", 404, "not_found", True),
        ("bad-id-nonstream", 400, "not_found", True),
        ("nonstream-chain-llm-400", 500, "model_400", False),
        ("nonstream-chain-llm-cut-rst", 500, "model_connection", True),
        ("rate-limited", 429, "rate_limit", True),
        ("rate-limited-stream", 429, "rate_limit", True),
        ("origin-bad-nonstream", 403, "status_403", False),
        ("abort-agentflow-nonstream", 500, "aborted", True),
    ],
)
def test_the_texts_of_the_captured_replies(capture, status, kind, may_be_logged):
    body = load(capture).partition(b"\r\n\r\n")[2]
    failure = of_reply(status, body)
    assert (failure.kind, failure.may_be_logged) == (kind, may_be_logged)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, None, "status_500"),
        (500, b"", "status_500"),
        (502, b"<html>SECRET", "status_502"),
        (500, b"[1]", "status_500"),
        (500, b'{"message":1}', "status_500"),
        (500, b'{"a":' + b"[" * 100_000, "status_500"),
        (500, b'{"message":"Unauthorized"' + b" " * READ + b"}", "status_500"),
        (404, b"\xff", "status_404"),
    ],
)
def test_a_reply_without_a_known_text_is_its_status(status, body, kind):
    assert of_reply(status, body).described(with_text=False) == kind


def test_the_message_of_a_reply():
    assert message(json.dumps({"message": "a\u2028b"}).encode()) == "a\u2028b"
    assert message(b"slow down please") == "slow down please"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"Chatflow {FLOW} not found", f"Chatflow {FLOW} not found"),
        (f"Chatflow {FLOW} not found in the database!", f"Chatflow {FLOW} not found"),
        (
            f"Error: chatflowsService.checkIfChatflowIsValidForStreaming - Chatflow {FLOW} not found",
            f"Chatflow {FLOW} not found",
        ),
        ("Invalid Chatflow ID", "Invalid Chatflow ID"),
        ("Chatflow 00000000-1111-4222-8333-444455556666 not found", ""),
        (f"The tool said: Chatflow {FLOW} not found", ""),
        ("Unauthorized", ""),
        ("", ""),
    ],
)
def test_what_says_that_a_chatflow_is_missing(text, sentence):
    assert missing_chatflow(text, FLOW) == sentence
