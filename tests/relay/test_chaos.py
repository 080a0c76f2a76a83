"""Three hundred streams with random ends on both sides: afterwards nothing is left, and each was logged once."""

from __future__ import annotations

import asyncio
import random
import uuid

import pytest

from tests.harness import bounds
from tests.harness.clock import time_passes, until
from tests.harness.frames import ABORTED, ASK, END, METADATA, PATH, START, settled, token
from tests.harness.raw_client import Wire
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

COUNT = 300
AT_ONCE = 30
LARGE = token("x" * 300_000)
UPSTREAM_ENDS = [
    "whole",
    "fin",
    "rst",
    "half an event",
    "in a chunk",
    "garbage",
    "silence",
    "no head",
    "error answer",
]
CLIENT_ENDS = ["reads all", "fin at once", "fin", "rst", "half close", "stops reading"]


class Flowise:
    """Answers as the question demands: with an end, and a number of tokens before it."""

    def __init__(self, dice):
        self.dice = dice

    async def __call__(self, peer, seen):
        end, tokens = seen.json()["question"].split(":")
        if end == "no head":
            peer.fin()
            return
        if end == "error answer":
            peer.answer(b'{"statusCode":500}', "500 Internal Server Error")
            return
        peer.send(STREAM_HEAD)
        peer.chunk(START)
        for number in range(int(tokens)):
            peer.chunk(LARGE if number == 7 else token(str(number)))
            await asyncio.sleep(0)
        await self.finish(peer, end)

    async def finish(self, peer, end):
        if end == "silence":
            await peer.closed_by_gateway()
        elif end == "whole":
            peer.chunk((METADATA if self.dice.random() < 0.8 else ABORTED) + END)
            peer.chunk(b"")
        elif end == "garbage":
            peer.send(b"zz\r\n")
        else:
            peer.send({"half an event": b"5\r\ndata:\r\n", "in a chunk": b"500\r\nmessage:"}.get(end, b""))
            await peer.writer.drain()
            peer.rst() if end == "rst" else peer.fin()


async def use(gateway, question, end, chat_id, patience):
    async with await Wire.to(gateway.host, gateway.port) as wire:
        wire.post(PATH, {**ASK, "question": question, "chatId": chat_id})
        if end == "fin at once":
            return
        try:
            if end == "reads all":
                reply = await wire.reply()
                assert reply.status in (200, 409, 500, 502, 504)
                return
            await read_some(wire, patience)
            if end == "rst":
                wire.reset()
            elif end == "half close":
                wire.writer.write_eof()
            elif end == "stops reading":
                wire.writer.transport.pause_reading()
                await time_passes(0.05)
        except (ConnectionError, asyncio.IncompleteReadError):
            return


async def read_some(wire, pieces):
    """The head and some of the body, unless nothing more comes."""
    try:
        async with asyncio.timeout(0.1):
            await wire.head()
            for _ in range(pieces):
                await wire.reader.read(500)
    except TimeoutError:
        return


async def quiet(gateway):
    """Wait until no connection, request, call or task is left."""
    left = (gateway.connections, gateway.exchanges, gateway.open_calls, gateway.background_tasks)
    await until(lambda: not any(what() for what in left))


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_left_of_three_hundred_streams(start, hurried, seed):
    hurried(0.05)
    await _nothing_is_left(start, seed, COUNT)


@pytest.mark.chaos
@pytest.mark.timeout(90 * bounds.TEST)
async def test_nothing_is_left_of_ten_thousand_streams(start, hurried):
    hurried(0.05)
    await _nothing_is_left(start, 3, 10_000)


async def _nothing_is_left(start, seed, count):
    dice = random.Random(seed)
    sections = {
        "server": {"timeouts": {"send": "200ms"}, "max_connections_per_address": 1000},
        "upstreams": {
            "main": {"timeouts": {"idle": "150ms", "first_event": "200ms", "head": "200ms", "total": "2s"}}
        },
        "route": {
            "conversations": {"wait": "300ms"},
            "heartbeat": "40ms",
            "on_disconnect": "abort",
            "limits": [
                {"name": "open", "concurrent": count},
                {"name": "tokens", "tokens": 10**9 - 1, "per": "1h"},
            ],
        },
    }
    async with RawUpstream(Flowise(dice)) as upstream, start(upstream.url, **sections) as gateway:
        base = len(asyncio.all_tasks())
        places = asyncio.Semaphore(AT_ONCE)
        chats = [str(uuid.UUID(int=dice.getrandbits(128))) for _ in range(100)]

        async def one():
            async with places:
                question = f"{dice.choice(UPSTREAM_ENDS)}:{dice.randrange(12)}"
                await use(gateway, question, dice.choice(CLIENT_ENDS), dice.choice(chats), dice.randrange(4))

        await asyncio.gather(*(one() for _ in range(count)))
        await quiet(gateway)
        begun = len(gateway.lines.of("request"))
        assert (
            count * 0.8 < begun <= count
        )  # a client that hung up before the gateway read its request made none
        lines = await settled(gateway, begun)
        assert len({line["request_id"] for line in lines}) == begun
        scraped = await gateway.metrics()
        total = sum(
            value for name, value in scraped.items() if name.startswith("flowise_gateway_requests_total")
        )
        assert total == begun
        assert len({line["outcome"] for line in lines}) >= 5
        assert gateway.limited_runs() == 0
        pool = gateway.pool()
        assert len(pool._open) == len(pool._idle)
        assert len(asyncio.all_tasks()) <= base + len(upstream._open) + 1
