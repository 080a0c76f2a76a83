"""Each outcome of a prediction, as the client, the log line and the metrics see it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.flowise.observer import StreamObserver
from gateway.handlers import predict
from gateway.relay import delivery as deliver
from gateway.relay import run
from gateway.relay.client import ClientStream
from gateway.relay.writers import EventStreamWriter
from tests.harness.frames import (
    ASK,
    ASK_JSON,
    END,
    METADATA,
    PATH,
    START,
    WHOLE,
    event,
    metered,
    only,
    stream,
    token,
)
from tests.harness.gateway import FLOW
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

STREAMS = {
    "ok": WHOLE,
    "empty": START + METADATA + END,
    "error_event": event("error", '"no model"') + END,
    "truncated": START + token("a") + END,
}


async def ended(gateway, reply, outcome):
    """The line of the one prediction, which has this outcome in line and metrics."""
    line = await only(gateway)
    scrape = await metered(gateway)
    status = str(line["status"])
    assert line["outcome"] == outcome
    assert scrape("requests_total", endpoint="prediction", outcome=outcome, status=status) == 1
    assert scrape("request_duration_seconds_count", endpoint="prediction") == 1
    assert reply is None or line["request_id"] == reply.fields["x-request-id"]
    return line


@pytest.mark.parametrize("outcome", STREAMS)
async def test_streams(start, connect, outcome):
    async def script(peer, _):
        stream(peer, STREAMS[outcome])

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        reply = await wire.reply()
        line = await ended(gateway, reply, outcome)
        scrape = await metered(gateway)
    assert reply.body == STREAMS[outcome]
    assert (line["status"], line["streaming"], line["bytes_out"]) == (200, True, len(reply.body))
    assert scrape("bytes_total", direction="out") == len(reply.body)
    assert (scrape("time_to_first_token_seconds_count") == 1) is (b'"token"' in reply.body)
    assert scrape("overhead_seconds_count") == 1


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        ("200 OK", b'{"text":"a"}', "ok"),
        ("500 Internal Server Error", b'{"statusCode":500,"success":false,"message":"m"}', "upstream_error"),
        ("404 Not Found", b"no", "upstream_error"),
    ],
)
@pytest.mark.parametrize("ask", [ASK, ASK_JSON])
async def test_whole_answers(start, connect, ask, status, body, outcome):
    async def script(peer, _):
        peer.answer(body, status)

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ask)
        reply = await wire.reply()
        line = await ended(gateway, reply, outcome)
    assert (reply.status, reply.body) == (int(status[:3]), body)
    assert (line["status"], line["streaming"]) == (reply.status, False)
    assert (line["tokens_in"] is None) is (
        reply.status == 404
    )  # Flowise refused it; a failure costs its question


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_an_invalid_reply_is_an_upstream_error(start, connect, answer):
    async def script(peer, _):
        peer.send(answer)

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        reply = await wire.reply()
        line = await ended(gateway, reply, "upstream_error")
    assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")
    assert line["status"] == 502


async def test_a_refused_prediction(start, connect):
    async with RawUpstream(None) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, {"question": "x" * 30_000, "streaming": True})
        reply = await wire.reply()
        line = await ended(gateway, reply, "refused")
    assert reply.status == line["status"]
    assert 400 <= reply.status < 500
    assert upstream.seen == []


async def test_an_unknown_chatflow_is_refused(start, connect):
    async with RawUpstream(None) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH.replace(FLOW, "other"), ASK)
        reply = await wire.reply()
        line = await only(gateway)
    assert (reply.status, line["status"], line["outcome"], line["route"]) == (404, 404, "refused", None)


def broken(*_, **__):
    raise ZeroDivisionError("a bug")


def without_bug_line(gateway):
    """The line of the bug, taken out of the log, which must hold no other."""
    (bug,) = gateway.lines.of("bug")
    assert bug["level"] == "error"
    rest = [
        text for text in gateway.lines.getvalue().splitlines(keepends=True) if '"event":"bug"' not in text
    ]
    gateway.lines.seek(0)
    gateway.lines.truncate()
    gateway.lines.writelines(rest)


@pytest.mark.parametrize("collaborator", ["PredictionRun", "_body"])
async def test_a_bug_before_the_request_is_sent_is_a_500(start, connect, monkeypatch, collaborator):
    monkeypatch.setattr(predict, collaborator, broken)
    async with RawUpstream(None) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        reply = await wire.reply()
        await gateway.lines.until("request")
        without_bug_line(gateway)
        line = await ended(gateway, reply, "failed")
    assert (reply.status, reply.json()["code"], line["status"]) == (500, "failed", 500)
    assert upstream.seen == []


async def test_a_bug_before_the_head_is_a_500_and_the_run_is_aborted(start, connect, monkeypatch):
    monkeypatch.setattr(deliver, "downward", broken)

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        await upstream.aborted.wait()
        peer.chunk(END)
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        reply = await wire.reply()
        await gateway.lines.until("request")
        without_bug_line(gateway)
        line = await ended(gateway, reply, "failed")
    assert (reply.status, line["status"], line["abort"]) == (500, 500, "stopped")


async def test_a_bug_before_the_first_bytes_are_sent_is_a_500(start, connect, monkeypatch):
    monkeypatch.setattr(EventStreamWriter, "feed", broken)

    async def script(peer, _):
        peer.send(STREAM_HEAD + b"%x\r\n%b\r\n" % (len(START), START))
        await upstream.aborted.wait()
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        reply = await wire.reply()
        await gateway.lines.until("request")
        without_bug_line(gateway)
        line = await ended(gateway, reply, "failed")
    assert (reply.status, line["status"], line["abort"]) == (500, 500, "stopped")


async def test_a_bug_after_the_head_cuts_the_connection(start, connect, monkeypatch):
    begin = ClientStream.begin

    def begin_and_break(self):
        begin(self)
        broken()

    monkeypatch.setattr(ClientStream, "begin", begin_and_break)

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(START)
        await upstream.aborted.wait()
        peer.chunk(END)
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        assert (await wire.head())[0] == 200
        try:
            rest = await wire.reader.read()
        except ConnectionError:
            rest = b""
        await gateway.lines.until("request")
        without_bug_line(gateway)
        line = await ended(gateway, None, "failed")
    assert b"HTTP/1.1" not in rest
    assert b"0\r\n\r\n" not in rest
    assert (line["status"], line["abort"]) == (200, "stopped")


async def test_a_bug_in_the_observer_ends_with_a_deadline(start, connect, monkeypatch):
    monkeypatch.setattr(StreamObserver, "feed", broken)

    async def script(peer, _):
        stream(peer, WHOLE)

    idle = {"upstreams": {"main": {"timeouts": {"idle": "100ms"}}}}
    monkeypatch.setattr(run, "GRACE", 0.0)
    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, **idle) as gateway,
        connect(gateway) as wire,
    ):
        raised = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: raised.append(context["exception"])
        )
        wire.post(PATH, ASK)
        reply = await wire.reply()
        line = await ended(gateway, reply, "timeout")
    assert reply.body.startswith(WHOLE)
    assert (line["status"], line["abort"]) == (200, "ran_on")
    assert {type(error) for error in raised} == {ZeroDivisionError}


async def test_a_bug_in_a_write_leaks_no_run(start, connect, monkeypatch):
    monkeypatch.setattr(ClientStream, "finish", broken)

    async def script(peer, _):
        stream(peer, WHOLE)

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        await wire.head()
        await gateway.lines.until("request")
        without_bug_line(gateway)
        await ended(gateway, None, "failed")
