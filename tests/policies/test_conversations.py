"""One run at a time in a conversation: one waiter, all others refused, and the lock is released however a run ends."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from tests.harness.clock import time_passes, until
from tests.harness.frames import (
    ABORT,
    ASK,
    ASK_JSON,
    END,
    METADATA,
    PATH,
    START,
    metered,
    settled,
    stream,
    token,
)
from tests.harness.gateway import FLOW
from tests.harness.raw_client import request
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

ENDING = token("b") + METADATA + END


class Held:
    """The first answer waits for `go_on`; the others repeat their question."""

    def __init__(self, ending="whole"):
        self.go_on, self.ending = asyncio.Event(), ending

    async def __call__(self, peer, seen):
        question = seen.json()["question"]
        if question != "hi":
            stream(peer, START + token(question) + METADATA + END)
            return
        if self.ending != "no head":
            peer.send(STREAM_HEAD)
            peer.chunk(START + token("a"))
        await self.go_on.wait()
        if self.ending == "whole":
            peer.chunk(ENDING)
            peer.chunk(b"")
        elif self.ending == "rst":
            peer.rst()
        else:
            peer.fin()


async def someone_waits(gateway):
    while not gateway.has_waiting_request():
        await asyncio.sleep(0)


async def test_the_next_waits_and_a_third_is_refused(start, connect):
    script = Held()
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as first, connect(gateway) as second, connect(gateway) as third:
            first.post(PATH, ASK)
            await first.head()
            second.post(PATH, {**ASK, "question": "two"})
            await someone_waits(gateway)
            await time_passes(0.01)
            third.post(PATH, {**ASK, "question": "three"})
            refused = await third.reply()
            assert (refused.status, refused.json()["code"]) == (409, "conversation_busy")
            assert len(upstream.seen) == 1
            script.go_on.set()
            assert b'"two"' in (await second.reply()).body
        lines = await settled(gateway, 3)
        scrape = await metered(gateway)
    assert [(line["outcome"], line["status"]) for line in lines] == [
        ("refused", 409),
        ("ok", 200),
        ("ok", 200),
    ]
    assert (scrape("conversation_waits_total", result="refused"), upstream.aborts) == (1, [])
    assert scrape("conversation_waits_total", result="got_turn") == 1
    assert lines[2]["waited_s"] > 0.005


async def test_a_route_may_refuse_at_once(start, connect):
    script = Held()
    route = {"conversations": {"when_busy": "refuse"}}
    async with RawUpstream(script) as upstream, start(upstream.url, route=route) as gateway:
        async with connect(gateway) as first, connect(gateway) as second:
            first.post(PATH, ASK)
            await first.head()
            second.post(PATH, ASK_JSON)
            assert (await second.reply()).status == 409
            script.go_on.set()
        await settled(gateway, 2)


async def test_the_wait_has_an_end(start, connect):
    script = Held()
    route = {"conversations": {"wait": "100ms"}}
    async with RawUpstream(script) as upstream, start(upstream.url, route=route) as gateway:
        async with connect(gateway) as first, connect(gateway) as second:
            first.post(PATH, ASK)
            await first.head()
            second.post(PATH, ASK)
            assert (await second.reply()).status == 409
            second.post(PATH, {**ASK, "question": "two"})
            await someone_waits(gateway)
            script.go_on.set()
            assert b'"two"' in (await second.reply()).body
        lines = await settled(gateway, 3)
    assert lines[0]["waited_s"] > 0.05


@pytest.mark.parametrize("ending", ["whole", "fin", "rst", "no head"])
async def test_the_lock_is_handed_over_however_the_run_ended(start, connect, ending):
    script = Held(ending)
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as first, connect(gateway) as second:
            first.post(PATH, ASK)
            while not upstream.seen:
                await asyncio.sleep(0)
            second.post(PATH, {**ASK, "question": "two"})
            await someone_waits(gateway)
            script.go_on.set()
            assert b'"two"' in (await second.reply()).body
            assert (await first.reply()).is_whole
        await settled(gateway, 2)


async def test_the_lock_is_handed_over_after_a_deadline(start, connect, hurried):
    hurried(0.0)
    limits = {"upstreams": {"main": {"timeouts": {"idle": "150ms"}}}}
    async with RawUpstream(Held()) as upstream, start(upstream.url, **limits) as gateway:
        async with connect(gateway) as first, connect(gateway) as second:
            first.post(PATH, ASK)
            await first.head()
            second.post(PATH, {**ASK, "question": "two"})
            assert b'"two"' in (await second.reply()).body
        await settled(gateway, 2)


async def test_the_lock_is_free_after_an_unreachable_upstream(start, connect):
    async with start("http://127.0.0.1:1") as gateway, connect(gateway) as wire:
        for number in (1, 2):
            wire.post(PATH, ASK)
            assert (await wire.reply()).status == 502
            await settled(gateway, number)


@pytest.mark.parametrize("other", [{"chatId": "chat-2"}, {"chatId": None}])
async def test_other_conversations_go_on(start, connect, other):
    script = Held()
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as first, connect(gateway) as second:
            first.post(PATH, ASK)
            await first.head()
            asked = {name: value for name, value in {**ASK, "question": "two", **other}.items() if value}
            second.post(PATH, asked)
            assert b'"two"' in (await second.reply()).body
            script.go_on.set()
            await first.reader.readuntil(b"0\r\n\r\n")
        await settled(gateway, 2)


async def test_an_abort_cancels_the_waiter_and_reaches_flowise(start, connect):
    script = Held()
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as first, connect(gateway) as second, connect(gateway) as third:
            first.post(PATH, ASK)
            await first.head()
            second.post(PATH, ASK)
            await someone_waits(gateway)
            third.send(request("PUT", ABORT))
            assert (await third.reply()).status == 200
            assert (await second.reply()).status == 409
            script.go_on.set()
            await first.until(END)
        await settled(gateway, 3)
    assert upstream.aborts == [ABORT]
    assert len(upstream.seen) == 1


async def test_which_chat_id_reaches_flowise(start, connect):
    async def script(peer, seen):
        stream(peer, START + METADATA + END) if seen.json().get("streaming") else peer.answer(b"{}")

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        session = {"overrideConfig": {"sessionId": "session-1"}}
        charges = [
            {},
            {"streaming": True},
            {"streaming": True, **session},
            {"streaming": True, "chatId": "own"},
        ]
        for ask in charges:
            wire.post(PATH, {"question": "hi", **ask})
            assert (await wire.reply()).status == 200, ask
        await settled(gateway, 4)
    plain, streamed, of_session, own = (seen.json() for seen in upstream.seen)
    assert "chatId" not in plain
    assert uuid.UUID(streamed["chatId"]).version == 4
    assert of_session.get("chatId", "session-1") == "session-1"
    assert own["chatId"] == "own"


async def test_a_session_id_is_a_conversation(start, connect):
    script = Held()
    ask = {"question": "hi", "streaming": True, "overrideConfig": {"sessionId": "session-1"}}
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as second:
            async with connect(gateway) as first:
                first.post(PATH, ask)
                await first.head()
                second.post(PATH, {**ask, "question": "two"})
                await someone_waits(gateway)
            await upstream.aborted.wait()
            assert len(upstream.seen) == 1
            script.go_on.set()
            assert b'"two"' in (await second.reply()).body
        await settled(gateway, 2)
    assert upstream.aborts == [ABORT.replace("chat-1", "session-1")]


async def test_the_lock_is_held_until_the_abort_was_answered(start, connect):
    """Flowise keys an abort by its conversation: one that comes late would hit the next run."""
    script = Held()
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        upstream.may_answer_abort.clear()
        async with connect(gateway) as second:
            async with connect(gateway) as first:
                first.post(PATH, ASK)
                await first.head()
            await upstream.aborted.wait()
            script.go_on.set()
            second.post(PATH, {**ASK, "question": "next"})
            await someone_waits(gateway)
            await until(lambda: not gateway.open_calls())
            assert len(upstream.seen) == 1
            upstream.may_answer_abort.set()
            assert b'"next"' in (await second.reply()).body
        assert len(upstream.seen) == 2


async def test_two_upstreams_of_one_flowise_share_its_conversations(start, connect):
    """Two keys for one server are an ordinary setup, and Flowise registers streams by chatId alone."""
    other = "33333333-1111-4222-8333-444455556666"
    script = Held()
    async with RawUpstream(script) as upstream:
        server = {"servers": [{"url": upstream.url}]}
        routes = [
            {"name": "chat", "chatflow": FLOW, "upstream": "main", "auth": ["anonymous"]},
            {"name": "second", "chatflow": other, "upstream": "twin", "auth": ["anonymous"]},
        ]
        async with (
            start(upstream.url, upstreams={"twin": server}, routes=routes) as gateway,
            connect(gateway) as first,
            connect(gateway) as second,
        ):
            first.post(PATH, ASK)
            await first.head()
            second.post("/api/v1/prediction/second", {**ASK, "question": "next"})
            await someone_waits(gateway)
            assert len(upstream.seen) == 1
            script.go_on.set()
            assert b'"next"' in (await second.reply()).body
