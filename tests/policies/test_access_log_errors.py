"""What the log line of a run says about Flowise's own errors, with and without `logs.prompts`."""

from __future__ import annotations

import json

import pytest

from tests.harness.captures import load
from tests.harness.frames import ASK, ASK_JSON, END, PATH, START, event, only, stream, token
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

SAID = "Error: predictionsServices.buildChatflow - 400 your prompt 'zqxPROMPT' is not allowed"
UNAUTHORIZED = "Error: predictionsServices.buildChatflow - Unauthorized"


async def line_of(start, connect, script, asked, **sections):
    async with RawUpstream(script) as upstream, start(upstream.url, **sections) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, asked)
            reply = await wire.reply()
        line = await only(gateway)
        return reply, line, gateway.lines.getvalue()


def streaming(text):
    async def script(peer, _):
        stream(peer, START + token("a") + event("error", json.dumps(text)) + END)

    return script


def answering(text, status="500 Internal Server Error"):
    async def script(peer, _):
        peer.answer(json.dumps({"statusCode": 500, "message": text}).encode(), status)

    return script


@pytest.mark.parametrize(("script", "asked", "outcome"), [
    (streaming, ASK, "error_event"), (answering, ASK_JSON, "upstream_error"),
])  # fmt: skip
async def test_a_text_that_may_hold_a_prompt_is_its_kind(start, connect, script, asked, outcome):
    _, line, log = await line_of(start, connect, script(SAID), asked)
    assert (line["outcome"], line["error"]) == (outcome, f"{outcome}: model_400")
    assert "zqxPROMPT" not in log


@pytest.mark.parametrize(("script", "asked", "outcome"), [
    (streaming, ASK, "error_event"), (answering, ASK_JSON, "upstream_error"),
])  # fmt: skip
async def test_with_prompts_the_text_is_logged_and_shortened(start, connect, script, asked, outcome):
    text = SAID + "x" * 300
    _, line, _ = await line_of(start, connect, script(text), asked, logs={"prompts": True})
    assert line["error"] == f"{outcome}: model_400 ({text[:199]}…)"


@pytest.mark.parametrize(("script", "asked", "outcome"), [
    (streaming, ASK, "error_event"), (answering, ASK_JSON, "upstream_error"),
])  # fmt: skip
async def test_a_fixed_sentence_is_logged(start, connect, script, asked, outcome):
    _, line, _ = await line_of(start, connect, script(UNAUTHORIZED), asked)
    assert line["error"] == f"{outcome}: wrong_key ({UNAUTHORIZED})"


@pytest.mark.parametrize(
    ("capture", "error"),
    [
        ("key-wrong-stream", f"error_event: wrong_key ({UNAUTHORIZED})"),
        ("stream-agentflow-llm-400", "error_event: model_400"),
        ("rate-limited", "upstream_error: rate_limit (slow down please)"),
        ("origin-bad-stream", "upstream_error: status_403"),
    ],
)
async def test_captured_replies(start, connect, capture, error):
    async def script(peer, _):
        peer.send(load(capture))

    _, line, _ = await line_of(start, connect, script, ASK)
    assert line["error"] == error


async def test_the_client_gets_the_text_in_any_case(start, connect):
    reply, _, _ = await line_of(start, connect, streaming(SAID), ASK)
    assert SAID.encode() in reply.body


async def test_a_stream_that_breaks_off_behind_its_error_says_both(start, connect):
    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(START + event("error", json.dumps(UNAUTHORIZED)))
        await peer.writer.drain()
        peer.fin()

    _, line, _ = await line_of(start, connect, script, ASK)
    assert line["error"] == f"broken off: connection closed; error_event: wrong_key ({UNAUTHORIZED})"


async def test_an_answer_without_an_error_has_none(start, connect):
    async def script(peer, _):
        peer.answer(b'{"text":"ok","message":"Unauthorized"}')

    _, line, _ = await line_of(start, connect, script, ASK_JSON)
    assert "error" not in line
