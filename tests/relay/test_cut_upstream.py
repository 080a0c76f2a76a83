"""Flowise breaks off: only whole events were forwarded; the stream is completed, or cut where that is impossible."""

from __future__ import annotations

import pytest

from tests.harness.frames import (
    ASK,
    ASK_JSON,
    PATH,
    START,
    WHOLE,
    is_completed,
    metered,
    only,
    settled,
    token,
)
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

FIRST = START + token("a")
HALF = b'message:\ndata:{"event":"tok'
LARGE = b'message:\ndata:{"event":"token","data":"' + b"x" * 300 * 1024
BY_CLOSE = STREAM_HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"").replace(b"keep-alive", b"close")


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


WAYS = {
    "after a whole event": chunk(FIRST),
    "in half an event": chunk(FIRST + HALF),
    "in half an event that came in two chunks": chunk(FIRST + HALF[:9]) + chunk(HALF[9:]),
    "in the middle of a chunk": chunk(FIRST) + b"30\r\nmessage:\ndata:",
    "in a chunk's size": chunk(FIRST) + b"3",
    "before the last chunk's end": chunk(FIRST) + b"0\r\n",
}


async def ask_and_settle(start, connect, script, ask=ASK, **sections):
    """The reply, its line, and the abort requests of one prediction."""
    async with RawUpstream(script) as upstream, start(upstream.url, **sections) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ask)
            reply = await wire.reply()
            line = await only(gateway)
            assert (await metered(gateway))(
                "requests_total", endpoint="prediction", outcome=line["outcome"], status=str(line["status"])
            ) == 1
            assert reply.is_whole or await wire.reader.read() == b""
    assert upstream.aborts == []
    return reply, line


@pytest.mark.parametrize("ending", ["fin", "rst"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_that_breaks_off_is_completed(start, connect, reads, way, ending):
    async def script(peer, _):
        peer.send(STREAM_HEAD + WAYS[way])
        await reads.reach(len(STREAM_HEAD + WAYS[way]))
        getattr(peer, ending)()

    reply, line = await ask_and_settle(start, connect, script)
    assert reply.is_whole
    assert is_completed(reply.body, FIRST)
    assert (line["outcome"], line["status"], line["events"]) == ("truncated", 200, 2)


@pytest.mark.parametrize("garbage", [b"xyz\r\n", b"-1\r\n", b"fffffffffffffffff\r\n", b"5\r\nabcdefgh\r\n"])
async def test_a_broken_framing_is_a_break(start, connect, reads, garbage):
    async def script(peer, _):
        peer.send(STREAM_HEAD + chunk(FIRST))
        await reads.reach(len(STREAM_HEAD + chunk(FIRST)))
        peer.send(garbage)
        await peer.closed_by_gateway()

    reply, line = await ask_and_settle(start, connect, script)
    assert is_completed(reply.body, FIRST)
    assert line["outcome"] == "truncated"


async def test_a_framing_that_is_broken_together_with_the_head_is_a_502(start, connect):
    async def script(peer, _):
        peer.send(STREAM_HEAD + b"xyz\r\n")
        await peer.closed_by_gateway()

    reply, line = await ask_and_settle(start, connect, script)
    assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")
    assert line["outcome"] == "upstream_error"


@pytest.mark.parametrize("tail", [b"", HALF])
async def test_a_close_delimited_stream_without_end_is_completed(start, connect, tail):
    async def script(peer, _):
        peer.send(BY_CLOSE + FIRST + tail)
        peer.fin()

    reply, line = await ask_and_settle(start, connect, script)
    assert is_completed(reply.body, FIRST)
    assert line["outcome"] == "truncated"


async def test_a_clean_end_without_end_event_stays_as_it_is(start, connect):
    async def script(peer, _):
        peer.send(STREAM_HEAD + chunk(FIRST + HALF) + b"0\r\n\r\n")

    reply, line = await ask_and_settle(start, connect, script)
    assert reply.body == FIRST + HALF
    assert line["outcome"] == "truncated"


@pytest.mark.parametrize("ending", ["fin", "rst"])
@pytest.mark.parametrize("tail", [b"", HALF])
async def test_nothing_is_added_to_an_answer_that_had_its_end(start, connect, reads, ending, tail):
    async def script(peer, _):
        data = STREAM_HEAD + chunk(WHOLE + tail)
        peer.send(data)
        await reads.reach(len(data))
        getattr(peer, ending)()

    reply, line = await ask_and_settle(start, connect, script)
    assert reply.is_whole
    assert reply.body == WHOLE
    assert line["outcome"] == "ok"


@pytest.mark.parametrize("ending", ["fin", "rst"])
async def test_a_cut_inside_a_large_event_has_no_last_chunk(start, connect, reads, ending):
    async def script(peer, _):
        data = STREAM_HEAD + chunk(FIRST + LARGE)
        peer.send(data)
        await reads.reach(len(data))
        getattr(peer, ending)()

    reply, line = await ask_and_settle(start, connect, script)
    assert not reply.is_whole
    assert reply.body == FIRST + LARGE
    assert line["outcome"] == "truncated"


async def test_a_cut_behind_a_large_event_is_completed(start, connect, reads):
    whole = FIRST + LARGE + b'"}\n\n'

    async def script(peer, _):
        data = STREAM_HEAD + chunk(whole) + b"5\r\n"
        peer.send(data)
        await reads.reach(len(data))
        peer.fin()

    reply, _ = await ask_and_settle(start, connect, script)
    assert reply.is_whole
    assert is_completed(reply.body, whole)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n",
    ],
)
async def test_a_json_answer_that_breaks_off_is_cut(start, connect, reads, head):
    async def script(peer, _):
        peer.send(head + b'{"text":"a')
        await reads.reach(len(head) + 10)
        peer.fin()

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ASK_JSON)
            await wire.head()
            got = await wire.reader.read()
            line = await only(gateway)
    assert got in (b'{"text":"a', b'a\r\n{"text":"a\r\n')
    assert (line["outcome"], line["status"]) == ("truncated", 200)


async def test_a_close_delimited_json_answer_is_whole(start, connect):
    async def script(peer, _):
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"text":"a"}')
        peer.fin()

    reply, line = await ask_and_settle(start, connect, script, ASK_JSON)
    assert (reply.is_whole, reply.body) == (True, b'{"text":"a"}')
    assert line["outcome"] == "ok"


@pytest.mark.parametrize("ending", ["fin", "rst"])
async def test_no_head_is_a_502(start, connect, ending):
    async def script(peer, _):
        getattr(peer, ending)()

    reply, line = await ask_and_settle(start, connect, script)
    assert (reply.status, reply.json()["code"]) == (502, "upstream_unreachable")
    assert (line["outcome"], line["status"]) == ("upstream_error", 502)


async def test_half_a_head_is_a_502(start, connect):
    async def script(peer, _):
        peer.send(STREAM_HEAD[:40])
        peer.fin()

    reply, _ = await ask_and_settle(start, connect, script)
    assert reply.status == 502


async def test_the_next_request_gets_a_connection_of_its_own(start, connect, reads):
    async def script(peer, seen):
        if seen.json()["question"] == "cut":
            peer.send(STREAM_HEAD + chunk(FIRST))
            await reads.reach(len(STREAM_HEAD + chunk(FIRST)))
            peer.fin()
        else:
            peer.send(STREAM_HEAD + chunk(WHOLE) + b"0\r\n\r\n")

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        for question in ("cut", "whole", "cut", "whole"):
            wire.post(PATH, {**ASK, "question": question})
            assert (await wire.reply()).is_whole
            reads.total = 0
        lines = await settled(gateway, 4)
    assert [line["outcome"] for line in lines] == ["truncated", "ok", "truncated", "ok"]
