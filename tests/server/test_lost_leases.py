"""A gateway that stands still for longer than its leases, beside another one with the same store."""

from __future__ import annotations

import asyncio
import signal
import uuid
from contextlib import asynccontextmanager

import pytest

from tests.harness import bounds
from tests.harness.clock import until
from tests.harness.fleet import SECRET, fleet, status_of
from tests.harness.frames import END, METADATA, PATH, START, is_completed, token
from tests.harness.raw_client import Wire
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

pytestmark = pytest.mark.timeout(3 * bounds.TEST)
SHORT = "tests.harness.short_leases"
REFUSING = {"conversations": {"bind": False, "when_busy": "refuse"}}


class Answers:
    """Each answer begins with its question and waits for `go_on`."""

    def __init__(self):
        self.go_on = asyncio.Event()

    async def __call__(self, peer, seen):
        peer.send(STREAM_HEAD)
        peer.chunk(START + token(seen.json()["question"]))
        await self.go_on.wait()
        peer.chunk(METADATA + END)
        peer.chunk(b"")


@asynccontextmanager
async def asking(gateway, question, chat):
    """A stream whose first token has come."""
    async with await Wire.to(gateway.host, gateway.port) as wire:
        wire.post(PATH, {"question": question, "streaming": True, "chatId": chat})
        assert (await wire.head())[0] == 200
        await wire.until(f'"{question}"'.encode())
        yield wire


async def stopped_beyond_its_leases(server, gateway):
    """Stop the gateway's process until its lock is gone and its slot, if any, has ended."""
    gateway.send_signal(signal.SIGSTOP)
    with server.client() as client:

        def has_lease():
            seconds, microseconds = client.time()
            now = seconds * 10**6 + microseconds
            slots = client.keys("fgw:*:c:*")
            return client.keys("*:turn") or any(client.zcount(key, now, "+inf") for key in slots)

        await until(lambda: not has_lease())


async def test_one_answer_remains_in_a_conversation_that_another_gateway_has_taken(valkey, tmp_path):
    script, chat = Answers(), str(uuid.uuid4())
    limits = [{"name": "open", "concurrent": 1, "by": "route"}]
    async with (
        RawUpstream(script) as upstream,
        fleet(tmp_path, 2, upstream.url, valkey.url, module=SHORT, route={"limits": limits}) as (a, b),
        asking(a, "one", chat) as first,
    ):
        await stopped_beyond_its_leases(valkey, a)
        async with asking(b, "two", chat) as second:
            a.send_signal(signal.SIGCONT)

            ended = await first.rest()
            assert is_completed(ended, b"")
            assert b"another one of this conversation has begun" in ended
            line = await a.until("leases_lost")
            assert (line["level"], line["slots"], line["conversations"]) == ("warning", 1, 1)
            assert await status_of(b, PATH) == await status_of(a, PATH) == 429  # both count, above the limit

            script.go_on.set()
            assert await second.rest() == METADATA + END
        assert upstream.aborts == []  # it would have hit the other run
        lines = [await a.until("request", 1), await a.until("request", 2)]
        (line,) = [line for line in lines if line["status"] == 200]
        assert (line["outcome"], line["abort"]) == ("refused", None)
        assert line["error"].startswith("conversation_busy: ")


async def test_an_answer_goes_on_if_its_conversation_is_still_free(valkey, tmp_path):
    script, chat = Answers(), str(uuid.uuid4())
    async with (
        RawUpstream(script) as upstream,
        fleet(tmp_path, 2, upstream.url, valkey.url, module=SHORT, route=REFUSING) as (a, b),
        asking(a, "one", chat) as first,
    ):
        await stopped_beyond_its_leases(valkey, a)
        a.send_signal(signal.SIGCONT)
        line = await a.until("leases_lost")
        assert (line["locks"], line["conversations"]) == (1, 0)
        assert await status_of(b, PATH, chatId=chat) == 409
        script.go_on.set()
        assert await first.rest() == METADATA + END


async def test_a_request_that_has_no_run_yet_gives_way_too(valkey, start, connect):
    """It waits for a connection to Flowise."""
    script = Answers()
    upstreams = {"main": {"max_connections": 1, "timeouts": {"connect": "30s"}}}
    async with (
        RawUpstream(script) as upstream,
        start(
            upstream.url, upstreams=upstreams, limits={"store": valkey.url}, auth={"secret": SECRET}
        ) as gateway,
        asking(gateway, "one", "chat-1"),
        connect(gateway) as wire,
    ):
        with valkey.client() as client:
            first = set(client.keys("*:turn"))
            wire.post(PATH, {"question": "two", "chatId": "chat-2"})
            await until(lambda: gateway.pool()._waiting)
            (key,) = set(client.keys("*:turn")) - first
            client.set(key, "another")
        gateway.renew_locks_now()
        reply = await wire.reply()
        assert (reply.status, reply.json()["code"]) == (409, "conversation_busy")
        assert len(upstream.seen) == 1
        script.go_on.set()
