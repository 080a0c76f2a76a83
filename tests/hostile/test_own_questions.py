"""Flowise's answers to the gateway's own questions are made to cost much: they are read in bounds, or refused."""

from __future__ import annotations

import pytest

from tests.harness.clock import until
from tests.harness.gateway import FLOW
from tests.harness.loop_turns import LONGEST, LONGEST_WAIT, LoopTurns
from tests.harness.raw_upstream import RawUpstream
from tests.harness.surface import ask
from tests.hostile.corpus.questions import MEGABYTE, REFUSED, STREAMABILITY, TRIMMED

PATH = f"/api/v1/public-chatbotConfig/{FLOW}"


def answering(body: bytes):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    sent = head + body

    async def script(peer, _):
        for at in range(0, len(sent), MEGABYTE):
            peer.send(sent[at : at + MEGABYTE])
            await peer.writer.drain()

    return script


@pytest.mark.parametrize("body", REFUSED)
async def test_settings_that_cannot_be_read_in_bounds_are_a_bad_reply(start, connect, body):
    async with RawUpstream(answering(REFUSED[body])) as upstream, start(upstream.url) as gateway:
        with LoopTurns() as turns:
            reply = await ask(connect, gateway, "GET", PATH)
    assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")
    assert turns.longest < LONGEST
    assert turns.longest_wait < LONGEST_WAIT


@pytest.mark.parametrize("body", TRIMMED)
async def test_a_hostile_flow_is_removed_in_bounds(start, connect, body):
    async with RawUpstream(answering(TRIMMED[body])) as upstream, start(upstream.url) as gateway:
        with LoopTurns() as turns:
            reply = await ask(connect, gateway, "GET", PATH)
    assert (reply.status, reply.json()) == (200, {"a": 1})
    assert turns.longest < LONGEST
    assert turns.longest_wait < LONGEST_WAIT


@pytest.mark.parametrize("body", STREAMABILITY)
async def test_whether_a_chatflow_streams_is_read_in_bounds_or_unknown(start, body):
    async with RawUpstream(answering(b"{}")) as upstream:
        upstream.streamable = STREAMABILITY[body]
        with LoopTurns() as turns:
            async with start(upstream.url, logs={"level": "debug"}) as gateway:
                await until(lambda: gateway.lines.of("streamability_unknown"))
                await gateway.refresh_streamability()
                assert gateway.streamability() == {}
    assert turns.longest < LONGEST
