"""A chatflow that Flowise does not have is 404 at once, on every endpoint but abort, until Flowise has it."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.relay import deadlines
from gateway.upstream import chatflows
from tests.harness.frames import ABORT, ASK, ASK_JSON, PATH, WHOLE, event, metered, only, settled, stream
from tests.harness.frames import END as END_EVENT
from tests.harness.gateway import FLOW
from tests.harness.held_stream import Held
from tests.harness.raw_client import request
from tests.harness.raw_upstream import STREAMABLE, RawUpstream

SENTENCE = f"Chatflow {FLOW} not found"
MISSING = b'{"message":"Error: chatflowsService.checkIfChatflowIsValidForStreaming - %b"}' % SENTENCE.encode()
CHAT = "0a000000-0000-4000-8000-000000000001"


def body(**members):
    return json.dumps(members).encode()


FORM = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nhello\r\n--b--\r\n'
TYPES = {FORM: "multipart/form-data; boundary=b", b"": None}
UPLOADS = {"uploads": True, "max_body": "1MiB"}
REQUESTS = {
    "prediction": ("POST", PATH, body(question="hi")),
    "stream": ("POST", PATH, body(question="hi", streaming=True)),
    "streaming": ("GET", f"/api/v1/chatflows-streaming/{FLOW}", b""),
    "uploads": ("GET", f"/api/v1/chatflows-uploads/{FLOW}", b""),
    "config": ("GET", f"/api/v1/public-chatbotConfig/{FLOW}", b""),
    "lead": ("POST", "/api/v1/leads", body(chatflowid=FLOW, chatId=CHAT, name="n", email="e@x")),
    "feedback": (
        "POST", f"/api/v1/feedback/{FLOW}", body(chatId=CHAT, messageId=CHAT, rating="THUMBS_UP", content=""),
    ),
    "attachments": ("POST", f"/api/v1/attachments/{FLOW}/{CHAT}", FORM),
    "file": ("GET", f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId=c&fileName=a.png", b""),
}  # fmt: skip


async def streaming(peer, _):
    stream(peer, WHOLE)


def deleted(script=streaming):
    """A Flowise that has no such chatflow."""
    upstream = RawUpstream(script)
    upstream.streamable, upstream.streamable_status = MISSING, "500 Internal Server Error"
    return upstream


def created(upstream):
    upstream.streamable, upstream.streamable_status = STREAMABLE, "200 OK"


@pytest.mark.parametrize("name", REQUESTS)
async def test_every_request_for_it_is_404_with_the_sentence_of_flowise(start, connect, name):
    *_, sent = asked = REQUESTS[name]
    async with (
        deleted() as upstream,
        start(upstream.url, route=UPLOADS) as gateway,
        connect(gateway) as wire,
    ):
        (found,) = await gateway.lines.until("chatflow_not_found")
        wire.send(request(*asked, Content_Type=TYPES.get(sent, "application/json")))
        reply = await wire.reply()
        line = await gateway.lines.request()
        assert upstream.seen == []
    assert (found["level"], found["route"], found["chatflow"], found["error"]) == (
        "error",
        "chat",
        FLOW,
        SENTENCE,
    )
    assert (reply.status, reply.json()["code"]) == (404, "unknown_route")
    assert SENTENCE in reply.json()["message"]
    assert (line["status"], line["outcome"]) == (404, "refused")
    assert SENTENCE in line["error"]


async def test_the_widget_gets_it_as_an_event_stream(start, connect):
    async with deleted() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        await gateway.lines.until("chatflow_not_found")
        wire.post(PATH, ASK, Accept="text/event-stream")
        reply = await wire.reply()
    assert (reply.status, reply.fields["x-gateway-status"]) == (200, "404")
    assert SENTENCE.encode() in reply.body


async def test_an_abort_passes(start, connect):
    async with deleted() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        await gateway.lines.until("chatflow_not_found")
        wire.send(request("PUT", ABORT))
        assert (await wire.reply()).status == 200
        assert len(upstream.aborts) == 1


async def test_nothing_is_charged_or_locked_for_it(start, connect):
    limits = {"limits": [{"name": "one", "requests": 1, "per": "1h", "by": "route"}]}
    async with deleted() as upstream, start(upstream.url, route=limits) as gateway, connect(gateway) as wire:
        await gateway.lines.until("chatflow_not_found")
        for _ in range(3):
            wire.post(PATH, ASK)
            assert (await wire.reply()).status == 404
        await settled(gateway, 3)


async def test_the_first_request_after_it_was_created_is_answered(start, connect, monkeypatch):
    monkeypatch.setattr(chatflows, "ASK_AGAIN_AFTER", 0.0)
    async with deleted() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        await gateway.lines.until("chatflow_not_found")
        created(upstream)
        wire.post(PATH, ASK)
        reply = await wire.reply()
        assert (reply.status, reply.body) == (200, WHOLE)
        (found,) = gateway.lines.of("chatflow_found")
    assert (found["level"], found["streaming"]) == ("info", True)


async def test_the_start_does_not_wait_and_what_is_unknown_counts_as_there(start, connect):
    async def script(peer, seen):
        assert seen.method == "POST"
        stream(peer, WHOLE)

    async with RawUpstream(script) as upstream:
        upstream.may_answer_question.clear()
        async with start(upstream.url) as gateway, connect(gateway) as wire:
            wire.post(PATH, ASK)
            assert (await wire.reply()).body == WHOLE
            assert gateway.lines.of("chatflow_found") == []
            upstream.may_answer_question.set()
            await gateway.lines.until("chatflow_found")


async def test_what_was_found_stands_in_the_log_once(start, connect):
    async with RawUpstream(streaming) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        await gateway.lines.until("chatflow_found")
        for _ in range(3):
            await gateway.refresh_streamability()
        wire.post(PATH, ASK)
        await wire.reply()
        await only(gateway)
        (reachable,) = gateway.lines.of("upstream_reachable")
        (found,) = gateway.lines.of("chatflow_found")
        server = upstream.url.removeprefix("http://")
    assert (reachable["upstream"], reachable["server"]) == ("main", server)
    assert (found["route"], found["upstream"], found["chatflow"]) == ("chat", "main", FLOW)


# -- a chatflow that is deleted while it is believed to be there -------------------------------------


async def test_a_stream_whose_head_is_late_ends_when_its_chatflow_is_gone(start, connect, monkeypatch):
    monkeypatch.setattr(deadlines, "HEAD_IS_LATE", 0.01)
    monkeypatch.setattr(chatflows, "ASK_AGAIN_AFTER", 0.0)

    async def script(peer, _):
        upstream.streamable, upstream.streamable_status = MISSING, "500 Internal Server Error"
        await peer.closed_by_gateway()  # as Flowise: no byte, for ever

    limits = {"limits": [{"name": "t", "tokens": 1000, "per": "1h", "by": "route", "reserve": 100}]}
    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, route=limits) as gateway,
        connect(gateway) as wire,
    ):
        await gateway.lines.until("chatflow_found")
        wire.post(PATH, ASK)
        reply = await wire.reply()
        line = await only(gateway)
        samples = await gateway.metrics()
        wire.send(request("GET", "/gateway/v1/limits"))
        (limit,) = (await wire.reply()).json()["limits"]
    assert (reply.status, reply.json()["code"]) == (404, "unknown_route")
    assert SENTENCE in reply.json()["message"]
    assert (line["status"], line["outcome"], line["tokens_in"]) == (404, "refused", None)
    assert [name for name in samples if 'result="client_error"' in name and "upstream_requests_total" in name]
    assert upstream.aborts == []
    assert gateway.lines.of("chatflow_not_found")
    assert limit["remaining"] == limit["limit"] == 1000


async def test_a_stream_whose_head_is_late_goes_on_when_its_chatflow_is_there(start, connect, monkeypatch):
    monkeypatch.setattr(deadlines, "HEAD_IS_LATE", 0.01)
    monkeypatch.setattr(chatflows, "ASK_AGAIN_AFTER", 0.0)

    async def script(peer, _):
        asked = upstream.questions
        while upstream.questions == asked:
            await upstream.asked.wait()
            upstream.asked.clear()
        stream(peer, WHOLE)

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        await gateway.lines.until("chatflow_found")
        wire.post(PATH, ASK)
        assert (await wire.reply()).body == WHOLE
        assert (await only(gateway))["outcome"] == "ok"


async def test_a_chatflow_that_does_not_stream_may_take_its_time(start, connect, monkeypatch):
    monkeypatch.setattr(deadlines, "HEAD_IS_LATE", 0.0)
    monkeypatch.setattr(chatflows, "ASK_AGAIN_AFTER", 0.0)
    async with RawUpstream(streaming) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        upstream.streamable = b'{"isStreaming":false}'
        await gateway.refresh_streamability()
        before = upstream.questions
        wire.post(PATH, ASK)
        await wire.reply()
        assert upstream.questions == before


async def test_no_question_is_asked_about_a_stream_that_has_begun(start, connect, monkeypatch):
    monkeypatch.setattr(deadlines, "HEAD_IS_LATE", 0.02)
    monkeypatch.setattr(chatflows, "ASK_AGAIN_AFTER", 0.0)
    held = Held(b"", WHOLE)
    async with RawUpstream(held) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        await gateway.lines.until("chatflow_found")
        before = upstream.questions
        wire.post(PATH, ASK)
        await wire.head()
        asyncio.get_running_loop().call_later(0.1, held.may_finish.set)
        await wire.until(b"[DONE]")
        await only(gateway)
        assert upstream.questions == before


# -- a key that the chatflow wants -------------------------------------------------------------------

UNAUTHORIZED = "Error: predictionsServices.buildChatflow - Unauthorized"


@pytest.mark.parametrize("ask", [ASK, ASK_JSON])
async def test_a_chatflow_that_wants_a_key_is_reported_when_it_says_so(start, connect, ask):
    has_key = False

    async def script(peer, _):
        if has_key:
            stream(peer, WHOLE)
        elif "streaming" in ask:
            stream(peer, event("error", json.dumps(UNAUTHORIZED)) + END_EVENT)
        else:
            peer.answer(body(statusCode=500, message=UNAUTHORIZED), "500 Internal Server Error")

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        await gateway.lines.until("chatflow_found")
        for _ in range(2):
            wire.post(PATH, ask)
            await wire.reply()
        await gateway.lines.until("request", 2)
        (wants,) = gateway.lines.of("chatflow_wants_key")
        has_key = True
        wire.post(PATH, ask)
        await wire.reply()
        await gateway.lines.until("chatflow_found", 2)
    assert (wants["level"], wants["route"], wants["upstream"]) == ("warning", "chat", "main")


async def test_metrics_of_a_refused_request_name_no_upstream(start, connect):
    async with deleted() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        await gateway.lines.until("chatflow_not_found")
        wire.post(PATH, ASK)
        await wire.reply()
        scrape = await metered(gateway)
        samples = await gateway.metrics()
    assert scrape("requests_total", endpoint="prediction", outcome="refused", status="404") == 1
    assert not [name for name in samples if name.startswith("flowise_gateway_upstream_requests_total")]
