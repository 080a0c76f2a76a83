"""Two gateways with one store: limits and conversations hold across both. Longer runs are in tests/chaos."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter

import pytest

from tests.harness import bounds
from tests.harness.clock import until
from tests.harness.fleet import fleet, status_of, statuses
from tests.harness.frames import END, METADATA, START, token
from tests.harness.gateway import FLOW
from tests.harness.raw_client import Wire, request
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream
from tests.harness.surface import answering

PATH = f"/api/v1/prediction/{FLOW}"
pytestmark = pytest.mark.timeout(3 * bounds.TEST)


def route(*limits, **keys):
    return {"route": {"limits": list(limits), **keys}}


async def test_exactly_the_limit_passes(valkey, tmp_path):
    rule = {"name": "all", "requests": 20, "per": "1h", "by": "route"}
    async with answering() as upstream, fleet(tmp_path, 2, upstream.url, valkey.url, **route(rule)) as both:
        assert Counter(await statuses(both, PATH, 200)) == {200: 20, 429: 180}
    assert len(upstream.seen) == 20


async def test_a_killed_gateways_run_stays_counted_and_the_other_gateway_goes_on(valkey, tmp_path):
    rule = {"name": "open", "concurrent": 1, "by": "route"}

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(START + token("a"))
        await peer.closed_by_gateway()

    async with (
        RawUpstream(script) as upstream,
        fleet(tmp_path, 2, upstream.url, valkey.url, **route(rule)) as both,
    ):
        wire = await Wire.to(both[0].host, both[0].port)
        wire.post(PATH, {"question": "hi", "streaming": True})
        await wire.until(b'"a"') if (await wire.head())[0] == 200 else None
        assert await status_of(both[1], PATH) == 429
        await both[0].end()  # kill -9
        assert await status_of(both[1], PATH) == 429  # until the lease ends
        await wire.close()


async def test_a_conversation_has_one_run_at_a_time_across_both(valkey, tmp_path):
    may_end, chat = asyncio.Event(), str(uuid.uuid4())

    async def script(peer, seen):
        peer.send(STREAM_HEAD)
        peer.chunk(START + token(seen.json()["question"]))
        if seen.json()["question"] == "one":
            await may_end.wait()
        peer.chunk(METADATA + END)
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, fleet(tmp_path, 2, upstream.url, valkey.url) as both:
        wires = [await Wire.to(gateway.host, gateway.port) for gateway in (*both, both[0])]
        for wire, question in zip(wires, ("one", "two", "three"), strict=True):
            wire.post(PATH, {"question": question, "streaming": True, "chatId": chat})
            if question == "one":
                await wire.head()
                await wire.until(b'"one"')
        refused = await first_of(wires[1:])
        assert (refused.status, refused.json()["code"]) == (409, "conversation_busy")
        assert len(upstream.seen) == 1
        may_end.set()
        await until(lambda: len(upstream.seen) == 2)
        for wire in wires:
            await wire.close()


async def first_of(wires):
    """The first reply; the request that waits for the conversation has none yet."""
    reading = [asyncio.ensure_future(wire.reply()) for wire in wires]
    done, left = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    return done.pop().result()


@pytest.mark.parametrize(("mode", "status"), [("local", 200), ("closed", 503)])
async def test_what_each_mode_does_without_a_store(mode, status, tmp_path):
    rule = {"name": "all", "requests": 1, "per": "1h", "by": "route"}
    store = "redis://127.0.0.1:1/0"
    sections = {"limits": {"when_store_fails": mode}, **route(rule)}
    async with answering() as upstream, fleet(tmp_path, 1, upstream.url, store, **sections) as (one,):
        async with await Wire.to(one.host, one.port) as wire:
            wire.send(request("POST", PATH, json.dumps({"question": "hi"}).encode()))
            reply = await wire.reply()
        again = await status_of(one, PATH)
        (line,) = [await one.until("limit_store_down")]
    assert (reply.status, again) == (status, 429 if mode == "local" else 503)
    if mode == "closed":
        assert (reply.json()["code"], reply.fields["retry-after"]) == ("store_unavailable", "1")
    assert (line["level"], line["reason"]) == ("error", "refused")
