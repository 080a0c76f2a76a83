"""A body that has arrived with its head is read at once, any other as it comes: both are the same to everybody."""

from __future__ import annotations

import asyncio
import re

import pytest

from gateway.policies.body_reader import BodyReader
from tests.harness.frames import PATH, WHOLE, settled, stream
from tests.harness.raw_client import request
from tests.harness.raw_upstream import RawUpstream

OWN = re.compile(r"flowise_gateway_\w+_total{")
TIMES = ("time", "duration_s", "ttft_s", "overhead_s", "waited_s")
BODIES = {
    "a question": b'{"question":"hi","streaming":true,"chatId":"c"}',
    "nothing to change": b'{"question":"hi","streaming":true,"chatId":"c","history":[]}',
    "fields that are dropped": b'{"question":"hi","streaming":true,"chatId":"c","stopNodeId":"x","more":1}',
    "a byte order mark": b'\xef\xbb\xbf{"question":"caf\xc3\xa9","streaming":"true","chatId":"c"}',
    "overrides": b'{"question":"hi","streaming":true,"overrideConfig":{"sessionId":"s"}}',
    "long": b'{"question":"%b","streaming":true,"chatId":"c"}' % (b"word " * 300),
    "no JSON": b'{"question":"hi"',
    "a name twice": b'{"question":"a","question":"b"}',
    "not allowed": b'{"question":"hi","overrideConfig":{"systemMessage":"x"}}',
    "not UTF-8": b'{"question":"\xff"}',
    "a long word": b'{"question":"%b"}' % (b"w" * 3000),
    "too large": b'{"question":"%b"}' % (b"word " * 1000),
    "nothing": b"",
}
FIELDS = {
    "": {},
    "another type": {"Content_Type": "text/plain"},
    "an expectation": {"Expect": "100-continue"},
    "an expectation that is not served": {"Expect": "200-ok"},
    "compressed": {"Content_Encoding": "gzip"},
}
KINDS = [(name, "") for name in BODIES] + [("a question", fields) for fields in FIELDS if fields]
ROUTE = {"max_body": "4KiB", "body": {"unknown": "drop"}, "conversations": {"bind": False}}


async def script(peer, _):
    stream(peer, WHOLE)


async def counters(gateway):
    samples = await gateway.metrics()
    return {name: value for name, value in samples.items() if OWN.match(name)}


async def send(wire, sent, *, pieces):
    """A request in one write, or its body in pieces that are read one by one."""
    head, end, body = sent.partition(b"\r\n\r\n")
    size = max(1, len(body) // 50) if pieces else len(body) + 1
    wire.send(head + end + body[: 0 if pieces else size])
    for at in range(0, len(body) if pieces else 0, size):
        await asyncio.sleep(0)
        wire.send(body[at : at + size])


async def seen(gateway, upstream, wire, sent, count, *, pieces):
    """What Flowise gets, the client's answer, the log line without times, and what was counted."""
    before, asked = await counters(gateway), len(upstream.seen)
    await send(wire, sent, pieces=pieces)
    if b"100-continue" in sent:
        assert (await wire.head())[0] == 100
    reply = await wire.reply()
    reply.fields.pop("date", None)
    line = (await settled(gateway, count))[-1]
    counted = {name: value - before.get(name, 0) for name, value in (await counters(gateway)).items()}
    return (
        [(request.head, request.body) for request in upstream.seen[asked:]],
        (reply.status, reply.fields, reply.body),
        {name: line[name] for name in line if name not in TIMES},
        {name: value for name, value in counted.items() if value},
    )


@pytest.mark.parametrize(("body", "fields"), KINDS)
async def test_a_body_in_pieces_and_at_once_are_the_same(start, connect, body, fields):
    content = BODIES[body]
    sent = request(
        "POST", PATH, content, X_Request_ID="r", **{"Content_Length": str(len(content)), **FIELDS[fields]}
    )
    async with RawUpstream(script) as upstream, start(upstream.url, route=ROUTE) as gateway:
        async with connect(gateway) as wire:
            at_once = await seen(gateway, upstream, wire, sent, 1, pieces=False)
        async with connect(gateway) as wire:
            in_pieces = await seen(gateway, upstream, wire, sent, 2, pieces=True)
    assert at_once == in_pieces


async def test_the_usual_body_is_read_at_once(start, connect, monkeypatch):
    async def read(_):
        raise AssertionError("awaited")

    monkeypatch.setattr(BodyReader, "read", read)
    sent = request("POST", PATH, BODIES["a question"])
    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, route=ROUTE) as gateway,
        connect(gateway) as wire,
    ):
        asked, (status, *_), *_ = await seen(gateway, upstream, wire, sent, 1, pieces=False)
    assert (status, asked[-1][1]) == (200, BODIES["a question"])
