"""A key that is revoked or expires ends its requests and those of its session tokens, and no others."""

from __future__ import annotations

import asyncio
import json
import resource
import time

import pytest

from gateway import app
from gateway.auth import keys_watch, service
from tests.harness.api_keys import FILE, change_key, key_of
from tests.harness.clock import until
from tests.harness.frames import END, METADATA, PATH, START, is_completed, settled, stream, token
from tests.harness.gateway import FLOW
from tests.harness.limit_process import lag
from tests.harness.raw_client import Wire, request
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

SECRET = "s" * 32
SECTIONS = {"auth": {"secret": SECRET}, "route": {"auth": ["api_key", "session"]}}
ENDED = b"has been revoked or has expired"
WITHIN = 2  # seconds, on a machine that does not stall


class Open:
    """Each answer begins and waits for `go_on`; a question `soon` is answered at once."""

    def __init__(self):
        self.go_on = asyncio.Event()

    async def __call__(self, peer, seen):
        if seen.json()["question"] == "soon":
            stream(peer, START + token("x") + METADATA + END)
            return
        peer.send(STREAM_HEAD)
        peer.chunk(START + token("a"))
        await self.go_on.wait()
        peer.chunk(token("b") + METADATA + END)
        peer.chunk(b"")


@pytest.fixture
def at_once(hurried, monkeypatch):
    """The keys file is looked at every 50 ms, for what does not measure how soon a key is revoked."""
    monkeypatch.setattr(keys_watch, "CHECK_EVERY", 0.05)


class Clock:
    """The gateway's clock, `ahead` seconds ahead of the system's."""

    ahead = 0.0

    def __call__(self):
        return time.time() + self.ahead


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (app, service):
        monkeypatch.setattr(module, "time", clock)
    return clock


async def asking(wire, credential, chat="c1", question="hi"):
    body = {"question": question, "streaming": True, "chatId": chat}
    wire.post(PATH, body, Authorization=f"Bearer {credential}")
    await wire.head()
    assert token("a") in await wire.until(b'"a"')


async def mint(wire, key, **asked):
    content = json.dumps({"caller": "ann", **asked}).encode()
    wire.send(request("POST", "/gateway/v1/session-tokens", content, Authorization=f"Bearer {key}"))
    return (await wire.reply()).json()["token"]


def line_of(lines, caller):
    (line,) = [line for line in lines if line["caller"] == caller and line["endpoint"] == "prediction"]
    return line


async def test_a_revoked_key_ends_its_streams_and_those_of_its_sessions(start, connect, tmp_path):
    key, other = await key_of(tmp_path, "gone"), await key_of(tmp_path, "stays")
    script = Open()
    async with RawUpstream(script) as upstream, start(upstream.url, **SECTIONS) as gateway:
        async with connect(gateway) as own, connect(gateway) as session, connect(gateway) as another:
            minted = await mint(session, key)
            await asking(own, key, "c1")
            await asking(session, minted, "c2")
            await asking(another, other, "c3")
            async with lag() as lost:
                began = time.monotonic()
                await change_key(tmp_path, key, revoked=time.time())
                for wire in (own, session):
                    body = await wire.rest()
                    assert is_completed(body, b"")
                    assert ENDED in body
                assert time.monotonic() - began < WITHIN + lost.sum
            await until(lambda: len(upstream.aborts) == 2)
            assert sorted(target.rpartition("/")[2] for target in upstream.aborts) == ["c1", "c2"]
            script.go_on.set()
            assert (await another.rest()).endswith(END)
            for credential in (key, minted):
                own.post(PATH, {"question": "soon"}, Authorization=f"Bearer {credential}")
                assert (await own.reply()).status == 401
        lines = await gateway.lines.until("request", 6)
    ended = [line_of(lines[:5], "key:gone"), line_of(lines[:5], "session:gone/ann")]
    for line in ended:
        assert (line["status"], line["outcome"]) == (200, "refused")
        assert line["error"].startswith("unauthenticated: ")
        assert line["abort"] == "ran_on"  # this upstream does not stop
    assert line_of(lines, "key:stays")["outcome"] == "ok"


async def test_an_expired_key_ends_its_streams(start, connect, tmp_path, clock):
    """Nothing changes in the file; it is the clock that goes on."""
    ends = float(int(time.time()) + 3600)
    key = await key_of(tmp_path, "short", expires=ends)
    async with RawUpstream(Open()) as upstream, start(upstream.url, **SECTIONS) as gateway:
        async with lag() as lost, connect(gateway) as wire:
            await asking(wire, key)
            clock.ahead = ends - 1 - time.time()
            body = await wire.rest()
            assert ends <= clock() < ends + WITHIN + lost.sum
        assert is_completed(body, b"")
        assert ENDED in body


async def test_a_key_revoked_while_the_file_cannot_be_opened_ends_its_streams_when_it_can(serve, tmp_path):
    """The process has no descriptor left at that moment, and nothing changes in the file afterwards."""
    key = await key_of(tmp_path, "gone")
    async with RawUpstream(Open()) as upstream, serve(upstream.url, **SECTIONS) as gateway:
        async with await Wire.to(gateway.host, gateway.port) as wire:
            await asking(wire, key)
            limits = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (1, limits[1]))
            await change_key(tmp_path, key, revoked=time.time())
            line = await gateway.until("keys_file_broken")
            assert "(Too many open files)" in line["mistakes"][0]
            resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, limits)
            body = await wire.rest()
            assert is_completed(body, b"")
            assert ENDED in body


async def test_a_key_ends_its_streams_although_the_clock_stepped_forward_and_back_before(
    start, connect, tmp_path, clock
):
    key = await key_of(tmp_path, "short", expires=float(int(time.time()) + 3600))
    async with RawUpstream(Open()) as upstream, start(upstream.url, **SECTIONS) as gateway:
        async with connect(gateway) as first, connect(gateway) as second:
            await asking(first, key, "c1")
            clock.ahead = 7200.0
            assert ENDED in await first.rest()
            clock.ahead = 0.0
            await asking(second, key, "c2")  # the clock is right again: the key is valid
            clock.ahead = 3600.0
            assert ENDED in await second.rest()


async def test_the_end_of_a_session_token_only_refuses_new_requests(start, connect, tmp_path, clock):
    key = await key_of(tmp_path, "backend")
    script = Open()
    async with RawUpstream(script) as upstream, start(upstream.url, **SECTIONS) as gateway:
        async with connect(gateway) as wire, connect(gateway) as later:
            minted = await mint(wire, key, ttl="15m")
            await asking(wire, minted)
            clock.ahead = 15 * 60
            later.post(PATH, {"question": "soon", "streaming": True}, Authorization=f"Bearer {minted}")
            reply = await later.reply()
            assert (reply.status, "has expired" in reply.json()["message"]) == (401, True)
            script.go_on.set()
            assert (await wire.rest()).endswith(END)


@pytest.mark.usefixtures("at_once")
async def test_a_request_that_waits_for_its_conversation_is_ended_as_well(start, connect, tmp_path):
    key = await key_of(tmp_path, "gone")
    script = Open()
    async with RawUpstream(script) as upstream, start(upstream.url, **SECTIONS) as gateway:
        async with connect(gateway) as first, connect(gateway) as second:
            await asking(first, key)
            body = {"question": "two", "streaming": True, "chatId": "c1"}
            second.post(PATH, body, Authorization=f"Bearer {key}")
            while not gateway.has_waiting_request():
                await asyncio.sleep(0)
            await change_key(tmp_path, key, revoked=time.time())
            reply = await second.reply()
            assert (reply.status, ENDED.decode() in reply.json()["message"]) == (401, True)
            assert reply.fields["www-authenticate"] == 'Bearer realm="flowise-gateway"'
        assert [seen.json()["question"] for seen in upstream.seen] == ["hi"]
        script.go_on.set()
        lines = await gateway.lines.until("request", 2)
    assert [(line["status"], line["outcome"]) for line in lines] == [(401, "refused"), (200, "refused")]


@pytest.mark.usefixtures("at_once")
async def test_a_transfer_is_ended_as_well(start, connect, tmp_path):
    key = await key_of(tmp_path, "gone")
    go_on = asyncio.Event()

    async def script(peer, _):
        await go_on.wait()
        peer.fin()

    path = f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId=c&fileName=a"
    async with RawUpstream(script) as upstream, start(upstream.url, **SECTIONS) as gateway:
        async with connect(gateway) as wire:
            wire.send(request("GET", path, Authorization=f"Bearer {key}"))
            while not upstream.seen:
                await asyncio.sleep(0)
            await change_key(tmp_path, key, revoked=time.time())
            reply = await wire.reply()
        assert (reply.status, ENDED.decode() in reply.json()["message"]) == (401, True)
        line = await gateway.lines.request()
        assert (line["status"], line["outcome"]) == (401, "refused")
        go_on.set()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("content", ["keys: [", "keys: 5\n", None])
async def test_a_broken_file_keeps_the_last_good_keys(content, start, connect, tmp_path):
    key = await key_of(tmp_path, "stays")
    script = Open()
    async with RawUpstream(script) as upstream, start(upstream.url, **SECTIONS) as gateway:
        async with connect(gateway) as wire:
            await asking(wire, key)
            if content is None:
                (tmp_path / FILE).unlink()
            else:
                (tmp_path / FILE).write_text(content)
            (line,) = await gateway.lines.until("keys_file_broken")
            assert (line["level"], len(line["mistakes"])) == ("error", 1)
            script.go_on.set()
            assert (await wire.rest()).endswith(END)
            wire.post(PATH, {"question": "soon", "streaming": True}, Authorization=f"Bearer {key}")
            assert (await wire.reply()).status == 200
        await settled(gateway, 2)


async def test_a_new_key_is_known_soon_and_no_request_is_lost(start, connect, tmp_path):
    key = await key_of(tmp_path, "first")
    async with RawUpstream(Open()) as upstream, start(upstream.url, **SECTIONS) as gateway:
        async with lag() as lost, connect(gateway) as wire:
            began = time.monotonic()
            new = await key_of(tmp_path, "second")
            while True:
                wire.post(PATH, {"question": "soon", "streaming": True}, Authorization=f"Bearer {key}")
                assert (await wire.reply()).status == 200
                wire.post(PATH, {"question": "soon", "streaming": True}, Authorization=f"Bearer {new}")
                if (await wire.reply()).status == 200:
                    break
            assert time.monotonic() - began < WITHIN + lost.sum


@pytest.mark.usefixtures("at_once")
async def test_a_request_that_waits_for_a_connection_is_ended_as_well(start, connect, tmp_path):
    """All connections are busy, and it may wait for one far longer than the two seconds."""
    key, other = await key_of(tmp_path, "gone"), await key_of(tmp_path, "stays")
    script = Open()
    upstreams = {"main": {"max_connections": 1, "timeouts": {"connect": "30s"}}}
    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, upstreams=upstreams, **SECTIONS) as gateway,
    ):
        async with connect(gateway) as first, connect(gateway) as second:
            await asking(first, other, "c1")
            second.post(PATH, {"question": "two", "chatId": "c2"}, Authorization=f"Bearer {key}")
            await until(lambda: gateway.pool()._waiting)
            await change_key(tmp_path, key, revoked=time.time())
            reply = await second.reply()
            assert (reply.status, ENDED.decode() in reply.json()["message"]) == (401, True)
            script.go_on.set()
            assert (await first.rest()).endswith(END)
        lines = await settled(gateway, 2)
    assert [(line["status"], line["outcome"]) for line in lines] == [(401, "refused"), (200, "ok")]
    assert [seen.json()["question"] for seen in upstream.seen] == ["hi"]


@pytest.mark.usefixtures("at_once")
async def test_a_request_in_the_middle_of_its_body_is_ended_as_well(start, connect, tmp_path):
    key = await key_of(tmp_path, "gone")
    async with RawUpstream(Open()) as upstream, start(upstream.url, **SECTIONS) as gateway:
        async with connect(gateway) as wire:
            whole = request("POST", PATH, b'{"question":"hi"}', Authorization=f"Bearer {key}")
            wire.send(whole[:-3])
            await until(lambda: any(e.caller.key_id for e in gateway.exchanges()))
            await change_key(tmp_path, key, revoked=time.time())
            assert (await wire.reply()).status == 401
        await settled(gateway)
    assert upstream.seen == []
