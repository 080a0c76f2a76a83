"""Client connections: reused, closed on request, pipelined, and HTTP/1.0."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.harness.clock import until
from tests.harness.frames import ASK, ASK_JSON, END, METADATA, PATH, START, WHOLE, settled, stream, token
from tests.harness.raw_client import request
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream


def ask(question, **more):
    return json.dumps({**ASK, "question": question, "chatId": question, **more}).encode()


def answer(question):
    return START + token(question) + METADATA + END


async def says_the_question(peer, seen):
    if seen.json().get("streaming"):
        stream(peer, answer(seen.json()["question"]))
    else:
        peer.answer(b'{"text":"a"}')


async def test_streams_and_json_one_after_the_other(start, connect):
    async with (
        RawUpstream(says_the_question) as upstream,
        start(upstream.url) as gateway,
        connect(gateway) as wire,
    ):
        for number in range(3):
            wire.post(PATH, ask(f"s{number}"))
            assert (await wire.reply()).body == answer(f"s{number}")
            wire.post(PATH, ASK_JSON)
            assert (await wire.reply()).body == b'{"text":"a"}'
        await settled(gateway, 6)
        assert len(gateway.connections()) == 1
    assert upstream.connections == 1


async def test_connection_close(start, connect):
    async with (
        RawUpstream(says_the_question) as upstream,
        start(upstream.url) as gateway,
        connect(gateway) as wire,
    ):
        wire.post(PATH, ask("q"), Connection="close")
        reply = await wire.reply()
        assert (reply.is_whole, reply.body) == (True, answer("q"))
        assert await wire.reader.read() == b""
        await settled(gateway, 1)


@pytest.mark.parametrize("size", [1, 3, 10])
async def test_pipelined_requests_in_one_segment(start, connect, size):
    async with (
        RawUpstream(says_the_question) as upstream,
        start(upstream.url) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(b"".join(request("POST", PATH, ask(f"q{number}")) for number in range(size)))
        for number in range(size):
            reply = await wire.reply()
            assert (reply.is_whole, reply.body) == (True, answer(f"q{number}"))
        await settled(gateway, size)


async def test_a_request_that_arrives_in_mid_stream(start, connect, reads):
    go_on = asyncio.Event()

    async def script(peer, seen):
        if seen.json()["question"] == "two":
            stream(peer, answer("two"))
            return
        peer.send(STREAM_HEAD)
        peer.chunk(START)
        await go_on.wait()
        peer.chunk(WHOLE)
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ask("one"))
        await wire.head()
        assert await wire.chunk() == START
        wire.post(PATH, ask("two"))
        wire.post("/api/v1/nothing", b"{}")
        go_on.set()
        assert await wire.chunk() == WHOLE
        assert await wire.chunk() == b""
        assert (await wire.reply()).body == answer("two")
        assert (await wire.reply()).status == 404
        await settled(gateway, 3)


def held_until(go_on):
    async def script(peer, seen):
        peer.send(STREAM_HEAD)
        await go_on.wait()
        peer.chunk(answer(seen.json()["question"]))
        peer.chunk(b"")

    return script


async def without_timer(gateway):
    """Wait until the only connection has no timer for the time between two requests."""
    (connection,) = gateway.connections()
    await until(lambda: connection._keepalive_handle is None)


async def test_an_answer_that_takes_long_holds_no_timer_for_idle_connections(start, connect, hurried):
    go_on = asyncio.Event()
    async with (
        RawUpstream(held_until(go_on)) as upstream,
        start(upstream.url) as gateway,
        connect(gateway) as wire,
    ):
        for question in ("one", "two"):
            wire.post(PATH, ask(question))
            await wire.head()
            await without_timer(gateway)
            go_on.set()
            assert await wire.chunk() == answer(question)
            assert await wire.chunk() == b""
            go_on.clear()


async def test_after_an_answer_that_took_long_an_idle_connection_is_closed(start, connect, hurried):
    go_on = asyncio.Event()
    server = {"timeouts": {"keep_alive": "2s"}}
    async with (
        RawUpstream(held_until(go_on)) as upstream,
        start(upstream.url, server=server) as gateway,
        connect(gateway) as wire,
    ):
        wire.post(PATH, ask("q"))
        await wire.head()
        await without_timer(gateway)
        go_on.set()
        assert await wire.chunk() == answer("q")
        assert await wire.chunk() == b""
        assert await wire.reader.read() == b""
    assert gateway.lines.of("connection_closed") == []


@pytest.mark.parametrize("keep", [b"", b"Connection: keep-alive\r\n"])
@pytest.mark.parametrize("streaming", [True, False])
async def test_http_1_0_has_no_chunks(start, connect, keep, streaming):
    async with (
        RawUpstream(says_the_question) as upstream,
        start(upstream.url) as gateway,
        connect(gateway) as wire,
    ):
        posted = request("POST", PATH, ask("q", streaming=streaming))
        wire.send(posted.replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\n" + keep, 1))
        reply = await wire.reply()
        await settled(gateway, 1)
    assert "transfer-encoding" not in reply.fields
    assert reply.body == (answer("q") if streaming else b'{"text":"a"}')


async def test_a_cut_stream_is_completed_for_http_1_0(start, connect):
    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(START)
        peer.fin()

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(request("POST", PATH, ask("q")).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        reply = await wire.reply()
        await settled(gateway, 1)
    assert reply.body.startswith(START + b"message:")
    assert reply.body.endswith(END)
