"""Clients that do not behave: they are slow, leave in the middle, send too much, or read nothing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from tests.harness.clock import time_passes
from tests.harness.raw_client import Wire, request
from tests.harness.surface import PREDICT
from tests.hostile.corpus.requests import KIB

PAUSE = 0.1  # seconds
PING = request("GET", "/api/v1/ping")
FLOOD = request("POST", PREDICT, b'{"question":"reply comments","streaming":true}')
LARGE = request("POST", PREDICT, b'{"question":"%b"}' % (b"a " * 60 * KIB))


@asynccontextmanager
async def _wire(host, port):
    wire = await Wire.to(host, port)
    try:
        yield wire
    finally:
        wire.writer.transport.abort()


async def leaves_at_once(host, port):
    async with _wire(host, port) as wire:
        wire.reset()


async def leaves_in_a_head(host, port):
    async with _wire(host, port) as wire:
        wire.send(LARGE[:40])
        await wire.writer.drain()
        wire.reset()


async def leaves_in_a_body(host, port):
    async with _wire(host, port) as wire:
        wire.send(LARGE[: 60 * KIB])
        await wire.writer.drain()
        wire.reset()


async def never_ends_its_head(host, port):
    async with _wire(host, port) as wire:
        wire.send(PING[:-2])
        await wire.reader.read()


async def never_ends_its_body(host, port):
    async with _wire(host, port) as wire:
        wire.send(LARGE[:-1])
        await wire.reader.read()


async def sends_a_body_byte_by_byte(host, port):
    async with _wire(host, port) as wire:
        wire.send(LARGE[:300])
        for at in range(300, 320):
            wire.send(LARGE[at : at + 1])
            await time_passes(PAUSE)


async def sends_a_request_byte_by_byte(host, port):
    async with _wire(host, port) as wire:
        for byte in PING:
            wire.send(bytes([byte]))
            await wire.writer.drain()
        await wire.reply()


async def leaves_a_flood(host, port):
    async with _wire(host, port) as wire:
        wire.send(FLOOD)
        await wire.reader.readexactly(KIB)
        wire.reset()


async def reads_nothing_of_a_flood(host, port):
    async with _wire(host, port) as wire:
        wire.writer.transport.pause_reading()
        wire.send(FLOOD)
        await time_passes(5 * PAUSE)


async def shuts_down_its_side(host, port):
    async with _wire(host, port) as wire:
        wire.send(FLOOD)
        wire.writer.write_eof()
        await wire.reader.read()


async def pipelines_behind_a_stream_and_leaves(host, port):
    async with _wire(host, port) as wire:
        wire.send(FLOOD + 64 * PING)
        await time_passes(PAUSE)


async def pipelines_pings(host, port):
    async with _wire(host, port) as wire:
        wire.send(64 * PING)
        for _ in range(64):
            assert (await wire.reply()).body == b"pong"


async def sends_bytes_behind_an_upgrade(host, port):
    async with _wire(host, port) as wire:
        wire.send(request("POST", PREDICT, b'{"question":"hi"}', Connection="upgrade", Upgrade="websocket"))
        wire.send(b"x" * 64 * KIB)
        await wire.reader.read()


async def floods_a_stream_with_bytes(host, port):
    async with _wire(host, port) as wire:
        wire.send(FLOOD + b"x" * 1024 * KIB)
        await wire.reader.read()


async def opens_many_connections(host, port):
    wires = await asyncio.gather(*(Wire.to(host, port) for _ in range(30)))
    for wire in wires:
        wire.writer.transport.abort()


TABLE = {
    one.__name__.replace("_", " "): one
    for one in (
        leaves_at_once,
        leaves_in_a_head,
        leaves_in_a_body,
        never_ends_its_head,
        never_ends_its_body,
        sends_a_body_byte_by_byte,
        sends_a_request_byte_by_byte,
        leaves_a_flood,
        reads_nothing_of_a_flood,
        shuts_down_its_side,
        pipelines_behind_a_stream_and_leaves,
        pipelines_pings,
        sends_bytes_behind_an_upgrade,
        floods_a_stream_with_bytes,
        opens_many_connections,
    )
}
