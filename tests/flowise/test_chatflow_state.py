"""What a reply to `chatflows-streaming` says of a chatflow."""

from __future__ import annotations

import pytest

from gateway.flowise.chatflow_state import ChatflowFinding, ChatflowState, read_state
from tests.harness.captures import load
from tests.harness.recorded_requests import UNKNOWN

FLOW = "2c5e8d0a-1111-4222-8333-444455556666"
NOT_FOUND = f"Chatflow {FLOW} not found"


def error(message):
    return b'{"statusCode":500,"success":false,"message":"%b","stack":{}}' % message.encode()


@pytest.mark.parametrize(
    ("status", "body", "finding", "sentence"),
    [
        (200, b'{"isStreaming":true}', ChatflowFinding.STREAMS, ""),
        (200, b'{"isStreaming":false}', ChatflowFinding.DOES_NOT_STREAM, ""),
        (200, b'{"isStreaming":0}', ChatflowFinding.UNKNOWN, ""),
        (200, b"[]", ChatflowFinding.UNKNOWN, ""),
        (200, b"nonsense", ChatflowFinding.UNKNOWN, ""),
        (200, b'{"isStreaming":"\xff"}', ChatflowFinding.UNKNOWN, ""),
        (200, b'{"a":' + b"[" * 100_000, ChatflowFinding.UNKNOWN, ""),
        (200, error(NOT_FOUND), ChatflowFinding.UNKNOWN, ""),
        (401, b'{"error":"Unauthorized Access"}', ChatflowFinding.WANTS_KEY, ""),
        (403, b"", ChatflowFinding.WANTS_KEY, ""),
        (500, error(f"Error: chatflowsService.checkIfChatflowIsValidForStreaming - {NOT_FOUND}"), ChatflowFinding.MISSING, NOT_FOUND),
        (404, error(f"{NOT_FOUND} in the database!"), ChatflowFinding.MISSING, NOT_FOUND),
        (400, error("Invalid Chatflow ID"), ChatflowFinding.MISSING, "Invalid Chatflow ID"),
        (500, error("Chatflow 00000000-0000-4000-8000-000000000001 not found"), ChatflowFinding.UNKNOWN, ""),
        (500, error("SQLITE_BUSY: database is locked"), ChatflowFinding.UNKNOWN, ""),
        (404, b"<html>Not Found", ChatflowFinding.UNKNOWN, ""),
        (502, b"", ChatflowFinding.UNKNOWN, ""),
        (500, b'{"a":' + b"[" * 100_000, ChatflowFinding.UNKNOWN, ""),
    ],
)  # fmt: skip
def test_each_reply(status, body, finding, sentence):
    assert read_state(status, body, FLOW) == ChatflowState(finding, sentence)


@pytest.mark.parametrize(
    ("capture", "status", "finding"),
    [
        ("chatflows-streaming-chain", 200, ChatflowFinding.STREAMS),
        ("chatflows-streaming-agentflow", 200, ChatflowFinding.STREAMS),
        ("chatflows-streaming-nostream", 200, ChatflowFinding.DOES_NOT_STREAM),
        ("chatflows-streaming-unknown", 500, ChatflowFinding.MISSING),
    ],
)
def test_the_captured_replies(capture, status, finding):
    assert read_state(status, load(capture).partition(b"\r\n\r\n")[2], UNKNOWN).finding is finding
