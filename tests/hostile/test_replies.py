"""Replies of Flowise that are made to cost much: each iteration of the loop stays short, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
from time import monotonic

import pytest

from gateway.relay import call
from tests.harness.clock import until
from tests.harness.frames import ASK, END, METADATA, PATH, START, metered, only, settled, token
from tests.harness.loop_turns import LONGEST, LONGEST_WAIT, LoopTurns, left_at_once, raw_answer
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream
from tests.hostile.corpus.replies import BROKEN, FLOODS, MEGABYTE, filled, in_chunks

ASKED = json.dumps(ASK).encode()
WITHHOLDING = {"events": {"withhold": ["usedTools", "custom:mine"]}}


def flooding(body: bytes, chunk: int = 65536):
    sent = STREAM_HEAD + in_chunks(START + body + token("x") + METADATA + END, chunk) + b"0\r\n\r\n"

    async def script(peer, _):
        for at in range(0, len(sent), MEGABYTE):
            peer.send(sent[at : at + MEGABYTE])
            await peer.writer.drain()

    return script


@pytest.mark.parametrize("withholding", [False, True], ids=["all events", "withholding"])
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_never_owns_the_loop(start, flood, withholding):
    async with (
        RawUpstream(flooding(FLOODS[flood])) as upstream,
        start(upstream.url, route=WITHHOLDING if withholding else {}) as gateway,
    ):
        with LoopTurns() as turns:
            answer = await raw_answer(gateway.host, gateway.port, PATH, ASKED)
            line = await only(gateway)
    assert answer.endswith(b"\r\n0\r\n\r\n")
    assert END in answer
    assert line["outcome"] == "ok"
    assert turns.longest < LONGEST


# Members of JSON answers that a route which withholds looks into; each about as large as it may be.
ANSWERS = {
    "numbers": b'"a":[' + filled(b"0,", 4 * MEGABYTE - 200) + b"0]",
    "arrays": b'"a":[' + filled(b"[],", 4 * MEGABYTE - 200) + b"0]",
    "escapes": b'"a":"' + filled(b"\\u0041", 4 * MEGABYTE - 200) + b'"',
    "half surrogates": b'"a":[' + filled(b'"\\ud83d",', 4 * MEGABYTE - 200) + b"0]",
    "blanks": b'"a":' + filled(b" ", 4 * MEGABYTE - 200) + b"0",
    "a long name": b'"' + filled(b"a", 4 * MEGABYTE - 200) + b'":0',
    "long members": b",".join(b'"a":"%b"' % filled(b"x", 16_000) for _ in range(250)),
    "members and blanks": b",".join(b'"a":' + filled(b" ", 16_000) + b"0" for _ in range(250)),
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_no_answer_that_is_looked_into_owns_the_loop(start, kind):
    body = b'{"usedTools":1,' + ANSWERS[kind] + b',"text":"x"}'

    async def script(peer, _):
        peer.answer(body)

    async with RawUpstream(script) as upstream, start(upstream.url, route=WITHHOLDING) as gateway:
        with LoopTurns() as turns:
            answer = await raw_answer(gateway.host, gateway.port, PATH, ASKED)
            line = await only(gateway)
    assert (line["outcome"], line["bytes_out"]) == ("ok", len(body) - len('"usedTools":1,'))
    assert answer.endswith(b',"text":"x"}')
    assert turns.longest < LONGEST
    assert turns.longest_wait < LONGEST_WAIT


async def test_chunks_of_one_byte_never_own_the_loop(start):
    body = filled(b":\n\n", MEGABYTE // 4)
    async with RawUpstream(flooding(body, chunk=1)) as upstream, start(upstream.url) as gateway:
        with LoopTurns() as turns:
            await raw_answer(gateway.host, gateway.port, PATH, ASKED)
            line = await only(gateway)
    assert line["outcome"] == "ok"
    assert turns.longest < LONGEST


async def test_other_requests_are_answered_within_the_flood(start, connect):
    """One read of a flood is 250 KB; a request that comes meanwhile does not wait for its end."""
    may_end = asyncio.Event()

    async def script(peer, seen):
        if seen.method == "GET":
            peer.answer(b"{}")
            return
        peer.send(STREAM_HEAD)
        while not may_end.is_set():
            peer.chunk(filled(b"a\n\n", 65536))
            await peer.writer.drain()
        peer.rst()  # else megabytes in the buffers of the sockets would follow

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        floods = [
            asyncio.ensure_future(raw_answer(gateway.host, gateway.port, PATH, json.dumps(ask).encode()))
            for ask in ({**ASK, "chatId": f"chat-{number}"} for number in range(3))
        ]
        while (await metered(gateway))("streams_active") < 3:
            pass
        with LoopTurns() as turns:
            for _ in range(20):
                wire.send(b"GET /api/v1/ping HTTP/1.1\r\nHost: gateway\r\n\r\n")
                assert (await wire.reply()).body == b"pong"
        may_end.set()
        await asyncio.gather(*floods)
    assert turns.longest < LONGEST


async def test_a_reply_without_a_client_is_read_at_a_bounded_rate(start, reads, monkeypatch):
    """It is neither closed nor given up: the conversation is held, and what it used is counted."""
    monkeypatch.setattr(call, "UNATTENDED_BURST", MEGABYTE)
    may_end = asyncio.Event()

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(START)
        while not may_end.is_set():
            peer.chunk(filled(b"a\n\n", 65536))
            await peer.writer.drain()
        peer.chunk(token("x") + METADATA + END)
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        await left_at_once(gateway.host, gateway.port, PATH, ASKED, START)
        await until(lambda: upstream.aborts)
        (run,) = gateway.open_calls()
        before, began = reads.total, monotonic()
        with LoopTurns() as turns:
            await until(lambda: reads.total - before > MEGABYTE + call.UNATTENDED_RATE)
            seconds = monotonic() - began
        assert reads.total - before < MEGABYTE + call.UNATTENDED_RATE * (seconds + 0.5)
        assert turns.longest < LONGEST
        assert not run.call.is_over
        may_end.set()
        monkeypatch.setattr(call, "UNATTENDED_BURST", 1024 * MEGABYTE)
        monkeypatch.setattr(
            call, "UNATTENDED_RATE", 1024 * MEGABYTE
        )  # for what waits in the buffers of the sockets
        (line,) = await settled(gateway)
    assert (line["outcome"], line["abort"]) == ("client_closed", "ran_on")
    assert line["events"] >= 3


async def test_reading_at_a_bounded_rate_does_not_count_as_silence_of_flowise(start, hurried, monkeypatch):
    """The pause is the gateway's own: `idle` is not over while bytes wait to be read, for longer than it here."""
    monkeypatch.setattr(call, "UNATTENDED_BURST", 1024)
    monkeypatch.setattr(call, "UNATTENDED_RATE", 96 * 1024)

    has_left = asyncio.Event()

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(START)
        await has_left.wait()
        peer.send(in_chunks(filled(b":\n\n", 80_000) + token("x") + METADATA + END, 65536) + b"0\r\n\r\n")

    timeouts = {"timeouts": {"idle": "400ms"}}
    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, upstreams={"main": timeouts}) as gateway,
    ):
        await left_at_once(gateway.host, gateway.port, PATH, ASKED, START)
        await until(lambda: upstream.aborts)
        has_left.set()
        (line,) = await settled(gateway)
    assert line["outcome"] == "client_closed"
    assert (line["abort"], line["events"]) == ("ran_on", 4)


@pytest.mark.parametrize("name", BROKEN)
async def test_a_reply_against_the_rules_is_refused_or_cut_in_bounds(start, name):
    sent, status, outcome = BROKEN[name]

    async def script(peer, _):
        peer.send(sent)
        await peer.writer.drain()
        peer.fin()

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        with LoopTurns() as turns:
            answer = await raw_answer(gateway.host, gateway.port, PATH, ASKED)
            line = await only(gateway)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (line["status"], line["outcome"]) == (status, outcome)
    assert turns.longest < LONGEST
