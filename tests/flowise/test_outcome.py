from __future__ import annotations

import pytest

from gateway import errors
from gateway.flowise.observer import StreamObserver
from gateway.flowise.outcome import Outcome, of_answer, of_error, of_stream
from tests.harness import captured_streams as streams

TOKEN = b'message:\ndata:{"event":"token","data":"x"}\n\n'
METADATA = b'message:\ndata:{"event":"metadata","data":{}}\n\n'
ERROR = b'message:\ndata:{"event":"error","data":"x"}\n\n'
END = b'message:\ndata:{"event":"end","data":"[DONE]"}\n\n'


def outcome(body):
    observer = StreamObserver()
    observer.feed(body, 1.0)
    return of_stream(observer)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("stream-chain", "ok"),
        ("stream-agentflow", "ok"),
        ("stream-chain-no-tokens", "empty"),
        ("stream-chain-llm-cut-eof", "error_event"),
        ("key-wrong-stream", "error_event"),
        ("server-sigterm", "truncated"),
        ("server-sigkill", "truncated"),
        ("3.1.2/same_chatid_victim", "truncated"),
        ("3.1.2/toolagent_stream", "ok"),
    ],
)
def test_a_captured_stream_has_its_outcome(name, word):
    assert outcome(streams.captured()[name]) == word


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (TOKEN + METADATA + END, "ok"),
        (METADATA + END, "empty"),
        (TOKEN + ERROR + END, "error_event"),
        (TOKEN + ERROR, "error_event"),
        (TOKEN + METADATA + ERROR + END, "error_event"),
        (TOKEN + METADATA, "truncated"),
        (TOKEN + METADATA + END[:-1], "truncated"),
        (TOKEN + END, "truncated"),
        (b"", "truncated"),
    ],
)
def test_the_events_decide(body, word):
    assert outcome(body) == word


@pytest.mark.parametrize(
    ("status", "is_whole", "word"),
    [
        (200, True, "ok"),
        (204, True, "ok"),
        (304, True, "ok"),
        (200, False, "truncated"),
        (400, True, "upstream_error"),
        (500, False, "upstream_error"),
    ],
)
def test_an_answer_has_the_outcome_of_its_status(status, is_whole, word):
    assert of_answer(status, is_whole=is_whole) == word


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (errors.BadRequest, "refused"),
        (errors.RateLimited, "refused"),
        (errors.Draining, "refused"),
        (errors.StoreUnavailable, "refused"),
        (errors.UpstreamUnreachable, "upstream_error"),
        (errors.UpstreamBadReply, "upstream_error"),
        (errors.UpstreamTimeout, "timeout"),
        (errors.Failed, "failed"),
    ],
)
def test_an_error_of_the_gateway_has_its_outcome(error, word):
    assert of_error(error("x")) == word


def test_the_values_are_a_closed_list():
    words = "ok error_event empty truncated upstream_error timeout client_closed refused failed"
    assert [str(word) for word in Outcome] == words.split()
