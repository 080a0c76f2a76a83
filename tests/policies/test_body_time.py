"""A body has a time: in the pause between two pieces, as a whole while it is held, and at a least rate."""

from __future__ import annotations

import asyncio

import pytest

from gateway.policies import body_reader
from tests.harness.clock import until
from tests.harness.raw_client import request
from tests.harness.surface import PREDICT, answering
from tests.policies.test_body_uploads import FIELD, FILE, TYPE

SIZE = 100_000


def head(size=SIZE, kind="application/json"):
    return request("POST", PREDICT, b"", Content_Type=kind, Content_Length=str(size))


async def trickle(wire, piece, until_done, every=0.01):
    """Send a piece again and again until the task is done."""
    while not until_done.done():
        wire.send(piece)
        await asyncio.wait([until_done], timeout=every)


@pytest.mark.parametrize(("kind", "begin"), [("application/json", b'{"x":"'), (TYPE, FIELD[:-10])])
async def test_a_body_that_comes_byte_by_byte_ends_with_its_time(kind, begin, start, connect, hurried):
    server = {"timeouts": {"body": "300ms", "body_idle": "200ms"}, "buffered_bodies": "1MiB"}
    async with (
        answering() as upstream,
        start(upstream.url, server=server) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(head(kind=kind) + begin)
        answer = asyncio.create_task(wire.reply())
        await trickle(wire, b"a", answer)
        reply = await answer
        assert await wire.reader.read() == b""
        await until(lambda: gateway.held_body_bytes() == 0)
        line = await gateway.lines.request()
    assert line["waited_s"] > 0.2  # of a refused body as well
    assert (reply.status, reply.json()["code"]) == (400, "bad_request")
    assert "did not arrive within 0.3 s" in reply.json()["message"]
    assert upstream.seen == []


async def test_bodies_of_slow_clients_do_not_keep_the_memory_from_others(start, connect, hurried):
    """Four clients that send a byte now and then hold everything, but not for longer than `timeouts.body`."""
    server = {"timeouts": {"body": "500ms"}, "buffered_bodies": "4000B"}
    async with answering() as upstream, start(upstream.url, server=server) as gateway:
        wires = [connect(gateway) for _ in range(4)]
        slow = [await wire.__aenter__() for wire in wires]
        for wire in slow:
            wire.send(head(2000) + b'{"x":"' + b"a" * 894)
        await until(lambda: gateway.held_body_bytes() == 4 * 900)
        async with connect(gateway) as other:
            other.send(request("POST", PREDICT, b'{"question":"hi"%b}' % (b" " * 500)))
            assert (await other.reply()).status == 503
        answers = [asyncio.create_task(wire.reply()) for wire in slow]
        await asyncio.gather(
            *(trickle(wire, b"a", answer) for wire, answer in zip(slow, answers, strict=True))
        )
        async with connect(gateway) as other:
            other.send(request("POST", PREDICT, b'{"question":"hi"%b}' % (b" " * 500)))
            assert (await other.reply()).status == 200
        for wire in wires:
            await wire.__aexit__()
    assert [(await answer).status for answer in answers] == [400] * 4


@pytest.mark.parametrize("is_file", [False, True])
async def test_a_body_must_arrive_at_a_least_rate(is_file, start, connect, hurried, monkeypatch):
    monkeypatch.setattr(body_reader, "RATE_GRACE", 0.2)
    server = {"timeouts": {"body_idle": "200ms"}}
    begin, kind = (FIELD + FILE, TYPE) if is_file else (b'{"x":"', "application/json")
    async with (
        answering() as upstream,
        start(upstream.url, server=server, route={"uploads": True}) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(head(kind=kind) + begin)
        answer = asyncio.create_task(wire.reply())
        await trickle(wire, b"a", answer)
        reply = await answer
    assert (reply.status, reply.json()["code"]) == (400, "bad_request")
    assert "less than 1024 bytes a second" in reply.json()["message"]
    assert upstream.seen == []


async def test_a_file_may_take_longer_than_a_body_that_is_held(start, connect, hurried):
    server = {"timeouts": {"body": "200ms"}}
    form = FIELD + FILE + b"a" * 40_000 + b"\r\n--b--\r\n"
    async with (
        answering() as upstream,
        start(upstream.url, server=server, route={"uploads": True}) as gateway,
        connect(gateway) as wire,
    ):
        loop = asyncio.get_running_loop()
        began = loop.time()
        wire.send(head(len(form), TYPE))
        for place in range(0, len(form), 1000):
            wire.send(form[place : place + 1000])
            await asyncio.wait([asyncio.create_task(asyncio.sleep(0))], timeout=0.01)
            while loop.time() < began + 0.5 * place / len(form):
                await asyncio.sleep(0)
        reply = await wire.reply()
    assert reply.status == 200
    assert len(upstream.seen) == 1
