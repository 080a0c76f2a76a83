"""Flowise's answers to the gateway's own questions are made to cost much: they are read in bounds, or refused."""

from __future__ import annotations

import json

import pytest

from tests.harness.clock import until
from tests.harness.gateway import FLOW
from tests.harness.loop_turns import LONGEST, LONGEST_WAIT, LoopTurns
from tests.harness.raw_upstream import RawUpstream
from tests.harness.surface import ask

KILOBYTE, MEGABYTE = 1024, 1024 * 1024
PATH = f"/api/v1/public-chatbotConfig/{FLOW}"


def filled(unit: bytes, size: int) -> bytes:
    return b",".join([unit] * (size // (len(unit) + 1)))


def flow_data(flow: bytes) -> bytes:
    return b'{"a":1,"flowData":%b}' % json.dumps(flow.decode()).encode()


def answering(body: bytes):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    sent = head + body

    async def script(peer, _):
        for at in range(0, len(sent), MEGABYTE):
            peer.send(sent[at : at + MEGABYTE])
            await peer.writer.drain()

    return script


MEMBERS = b"{" + b",".join(b'"%d":%d' % (number, number) for number in range(250 * KILOBYTE // 12)) + b"}"
REFUSED = {
    "members": MEMBERS,
    "members of 15 MiB": b"{" + filled(b'"a":0', 15 * MEGABYTE) + b"}",
    "an array": b"[" + filled(b"[]", 3 * MEGABYTE) + b"]",
    "an array of 15 MiB": b"[" + filled(b"[]", 15 * MEGABYTE) + b"]",
    "a text of 15 MiB": b'"' + b"x" * 15 * MEGABYTE + b'"',
    "blanks": b"{" + b" " * 3 * MEGABYTE,
    "nesting": b'{"a":' + b"[" * 3 * MEGABYTE,
    "surrogates in the end not closed": b'{"a":"' + b"\\ud800" * (MEGABYTE // 2),
}
TRIMMED = {
    "nodes": flow_data(b'{"nodes":[' + filled(b"{}", 3 * MEGABYTE) + b"]}"),
    "numbers as nodes": flow_data(b'{"nodes":[' + filled(b"0", 3 * MEGABYTE) + b"]}"),
    "inputs": flow_data(
        b'{"nodes":[{"data":{"name":"startAgentflow","inputs":{' + filled(b'"a":0', 2 * MEGABYTE) + b"}}}]}"
    ),
    "a flow of quotes": flow_data(b'"' * MEGABYTE),
    "surrogates": b'{"a":1,"flowData":"' + b"\\ud800" * (MEGABYTE // 2) + b'"}',
    "no text": b'{"a":1,"flowData":[' + filled(b"[]", 3 * MEGABYTE) + b"]}",
}


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


@pytest.mark.parametrize(
    "body",
    [
        b"[" + filled(b"[]", 15 * MEGABYTE) + b"]",
        b"[" + filled(b"[]", 63 * KILOBYTE) + b"]",
        b'{"a":[' + filled(b"[]", 63 * KILOBYTE) + b'],"isStreaming":1}',
        b'{"isStreaming":[' + filled(b"0", 63 * KILOBYTE) + b"]}",
    ],
    ids=["15 MiB", "an array", "another member", "no boolean"],
)
async def test_whether_a_chatflow_streams_is_read_in_bounds_or_unknown(start, body):
    async with RawUpstream(answering(b"{}")) as upstream:
        upstream.streamable = body
        with LoopTurns() as turns:
            async with start(upstream.url, logs={"level": "debug"}) as gateway:
                await until(lambda: gateway.lines.of("streamability_unknown"))
                await gateway.refresh_streamability()
                assert gateway.streamability() == {}
    assert turns.longest < LONGEST
