"""Answers that are read aloud: every byte passes as it comes, and a client that leaves ends the reading in Flowise."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.policies.conversations import ANSWER_RUNS
from tests.harness import captures
from tests.harness.frames import END, METADATA, START, token
from tests.harness.gateway import FLOW
from tests.harness.raw_client import request
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream
from tests.harness.servers import servers
from tests.harness.surface import ask

GENERATE, STOP = "/api/v1/text-to-speech/generate", "/api/v1/text-to-speech/abort"
NAMES = {"chatflowId": "chat", "chatId": "c", "chatMessageId": "m"}
SPEECH = json.dumps({**NAMES, "text": "Hello there."}).encode()
ABORT = json.dumps(NAMES).encode()
SPEAKING = {"speech": True}
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
)
FIRST = b'event: tts_start\ndata: {"event":"tts_start","data":{"chatMessageId":"m","format":"mp3"}}\n\n'
SOUND = b'event: tts_data\ndata: {"event":"tts_data","data":{"chatMessageId":"m","audioChunk":"AAAA"}}\n\n'
LAST = b'event: tts_end\ndata: {"event":"tts_end","data":{"chatMessageId":"m"}}\n\n'


class Flowise:
    """Reads aloud as soon as it may go on, and answers aborts."""

    def __init__(self, *chunks, ends=True):
        self.chunks, self.ends = chunks, ends
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.stops = []

    async def __call__(self, peer, seen):
        if seen.target.endswith("/abort"):
            self.stops.append(seen.json())
            peer.answer(b'{"message":"TTS stream aborted successfully"}')
            return
        if "prediction" in seen.target:
            peer.send(STREAM_HEAD)
            peer.chunk(START + token("a"))
            await self.may_go_on.wait()
            peer.chunk(METADATA + END)
            peer.chunk(b"")
            return
        peer.send(HEAD)
        for chunk in self.chunks:
            peer.chunk(chunk)
        await self.may_go_on.wait()
        if self.ends:
            peer.chunk(b"")
        else:
            peer.fin()


@pytest.mark.parametrize("name", ["speech", "speech-aborted", "speech-unknown"])
async def test_a_captured_stream_passes_byte_for_byte(name, start, connect):
    async def script(peer, _):
        peer.send(captures.load(name))

    async with RawUpstream(script) as upstream, start(upstream.url, route=SPEAKING) as gateway:
        reply = await ask(connect, gateway, "POST", GENERATE, SPEECH)
        line = await gateway.lines.request()
        metrics = await gateway.metrics()
    recorded = captures.load(name).partition(b"\r\n\r\n")[2]
    chunks = []
    while recorded:
        size, _, recorded = recorded.partition(b"\r\n")
        chunks.append(recorded[: int(size, 16)])
        recorded = recorded[int(size, 16) + 2 :]
    assert reply.body == b"".join(chunks)
    assert (reply.fields["content-type"], reply.fields["x-accel-buffering"]) == ("text/event-stream", "no")
    assert upstream.seen[0].json() == {**NAMES, "chatflowId": FLOW, "text": "Hello there."}
    outcome = "ok" if name == "speech" else "error_event"
    assert (line["endpoint"], line["route"], line["outcome"]) == ("speech", "chat", outcome)
    assert line["tts_bytes"] == len(reply.body) == line["bytes_out"]
    assert 0 <= line["tts_seconds"] < line["duration_s"]
    assert line["events"] == reply.body.count(b"event: ")
    if name == "speech":
        assert metrics['flowise_gateway_stream_events_total{event="tts_data",route="chat"}'] == 2


async def test_each_event_is_sent_when_it_has_come(start, connect):
    flowise = Flowise(FIRST, SOUND)
    flowise.may_go_on.clear()
    async with RawUpstream(flowise) as upstream, start(upstream.url, route=SPEAKING) as gateway:
        async with connect(gateway) as wire:
            wire.send(request("POST", GENERATE, SPEECH))
            await wire.head()
            await wire.until(SOUND)


async def test_a_client_that_leaves_ends_the_reading(start, connect):
    flowise = Flowise(FIRST, SOUND)
    flowise.may_go_on.clear()
    async with RawUpstream(flowise) as upstream, start(upstream.url, route=SPEAKING) as gateway:
        async with connect(gateway) as wire:
            wire.send(request("POST", GENERATE, SPEECH))
            await wire.head()
            await wire.until(SOUND)
        line = await gateway.lines.request()
        metrics = await gateway.metrics()
    assert flowise.stops == [{"chatflowId": FLOW, "chatId": "c", "chatMessageId": "m"}]
    assert (line["outcome"], line["abort"]) == ("client_closed", "stopped")
    assert metrics['flowise_gateway_aborts_total{result="stopped",route="chat"}'] == 1


async def test_a_client_that_leaves_ends_no_answer_of_its_conversation(start, connect):
    flowise = Flowise(FIRST, SOUND)
    flowise.may_go_on.clear()
    async with RawUpstream(flowise) as upstream, start(upstream.url, route=SPEAKING) as gateway:
        async with connect(gateway) as answer:
            answer.post(f"/api/v1/prediction/{FLOW}", {"question": "q", "streaming": True, "chatId": "c"})
            await answer.head()
            await answer.until(b'"a"')
            async with connect(gateway) as wire:
                wire.send(request("POST", GENERATE, SPEECH))
                await wire.head()
                await wire.until(SOUND)
            line = await gateway.lines.request()
    assert flowise.stops == []
    assert (line["endpoint"], line["abort"]) == ("speech", "failed")
    assert "an answer of the conversation is running" in line["error"]


async def test_an_abort_passes_while_nothing_runs_and_is_refused_while_an_answer_does(start, connect):
    """Flowise 3.1.4 still ends the answer's stream with it (capture speech-abort-run)."""
    flowise = Flowise()
    flowise.may_go_on.clear()
    async with RawUpstream(flowise) as upstream, start(upstream.url, route=SPEAKING) as gateway:
        assert (await ask(connect, gateway, "POST", STOP, ABORT)).status == 200
        async with connect(gateway) as answer:
            answer.post(f"/api/v1/prediction/{FLOW}", {"question": "q", "streaming": True, "chatId": "c"})
            await answer.head()
            await answer.until(b'"a"')
            busy = await ask(connect, gateway, "POST", STOP, ABORT)
            other = await ask(connect, gateway, "POST", STOP, ABORT.replace(b'"c"', b'"d"'))
            flowise.may_go_on.set()
            await answer.until(END)
        assert (busy.status, busy.json()["code"], busy.json()["message"]) == (
            409,
            "conversation_busy",
            ANSWER_RUNS,
        )
        assert other.status == 200
        assert (await ask(connect, gateway, "POST", STOP, ABORT)).status == 200
    assert [stop["chatId"] for stop in flowise.stops] == ["c", "d", "c"]


@pytest.mark.parametrize("message", ["m", "another"])
async def test_an_abort_goes_to_the_server_that_reads_aloud(message, start, connect):
    """Not to the least busy one, which is always the other; that of another message does."""
    flowise = Flowise(FIRST)
    flowise.may_go_on.clear()
    async with RawUpstream(flowise) as a, RawUpstream(flowise) as b:
        sections = servers(a.url, b.url, balance="least_busy")
        async with start(a.url, route=SPEAKING, **sections) as gateway, connect(gateway) as wire:
            wire.send(request("POST", GENERATE, SPEECH))
            await wire.head()
            reading, other = (a, b) if a.seen else (b, a)
            abort = json.dumps({**NAMES, "chatMessageId": message}).encode()
            assert (await ask(connect, gateway, "POST", STOP, abort)).status == 200
            assert (len(reading.seen), len(other.seen)) == ((2, 0) if message == "m" else (1, 1))
            flowise.may_go_on.set()
            await wire.until(FIRST)


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ((FIRST, SOUND), "the connection to Flowise was lost"),
        ((FIRST, SOUND[:20]), "the connection to Flowise was lost"),
    ],
)
async def test_a_stream_that_breaks_off_ends_with_an_error_that_the_widget_reads(
    chunks, said, start, connect
):
    async with (
        RawUpstream(Flowise(*chunks, ends=False)) as upstream,
        start(upstream.url, route=SPEAKING) as gateway,
    ):
        reply = await ask(connect, gateway, "POST", GENERATE, SPEECH)
        line = await gateway.lines.request()
    *_, last = reply.body.decode().strip().split("\n\n")
    name, data = last.split("\n")
    assert (name, json.loads(data.removeprefix("data: "))["event"]) == ("event: tts_error", "tts_error")
    assert said in data
    assert (line["outcome"], reply.body.count(b"tts_data")) == ("truncated", 2 * (len(chunks[1]) > 20))


async def test_an_error_of_flowise_that_is_no_stream_passes(start, connect):
    async def script(peer, _):
        peer.answer(b'{"error":"x"}', "500 Internal Server Error")

    async with RawUpstream(script) as upstream, start(upstream.url, route=SPEAKING) as gateway:
        reply = await ask(connect, gateway, "POST", GENERATE, SPEECH)
        line = await gateway.lines.request()
    assert (reply.status, reply.body, line["outcome"]) == (500, b'{"error":"x"}', "upstream_error")


async def test_silence_is_bounded_and_ends_the_reading(start, connect, hurried):
    flowise = Flowise(FIRST)
    flowise.may_go_on.clear()
    timeouts = {"main": {"timeouts": {"idle": "50ms"}}}
    async with (
        RawUpstream(flowise) as upstream,
        start(upstream.url, route=SPEAKING, upstreams=timeouts) as gateway,
    ):
        reply = await ask(connect, gateway, "POST", GENERATE, SPEECH)
        line = await gateway.lines.request()
    assert reply.body.startswith(FIRST)
    assert b"event: tts_error" in reply.body
    assert (line["outcome"], line["abort"], len(flowise.stops)) == ("timeout", "stopped", 1)


async def test_what_the_limits_of_the_route_say_holds(start, connect):
    keys = {**SPEAKING, "limits": [{"name": "few", "requests": 1, "per": "1h"}]}
    async with RawUpstream(Flowise(FIRST, LAST)) as upstream, start(upstream.url, route=keys) as gateway:
        statuses = [(await ask(connect, gateway, "POST", GENERATE, SPEECH)).status for _ in range(2)]
    assert statuses == [200, 429]


async def test_a_drain_ends_the_reading(start, connect):
    flowise = Flowise(FIRST, SOUND)
    flowise.may_go_on.clear()
    async with (
        RawUpstream(flowise) as upstream,
        start(upstream.url, route=SPEAKING) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(request("POST", GENERATE, SPEECH))
        await wire.head()
        await wire.until(SOUND)
        gateway.process.stop_now()
        await wire.until(b"shutting down")
        line = await gateway.lines.request()
    assert (line["outcome"], line["abort"]) == ("refused", "stopped")
    assert len(flowise.stops) == 1
