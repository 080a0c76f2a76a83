"""What a reload leaves of the servers of an upstream: their standing, their runs, their metrics."""

from __future__ import annotations

import asyncio
import math

import pytest

from gateway.config import read, usable
from tests.harness.clock import until
from tests.harness.frames import END, METADATA, PATH
from tests.harness.gateway import FLOW, configuration
from tests.harness.held_stream import TOKEN, Held
from tests.harness.raw_client import request
from tests.harness.raw_upstream import RawUpstream
from tests.harness.servers import NO_SUCH_NAME, Names, chat_on, named, servers
from tests.harness.surface import ask

pytestmark = pytest.mark.usefixtures("hurried")

UP = 'flowise_gateway_upstream_server_up{{server="{}",upstream="main"}}'
ONE_FAILURE = {"eject": {"failures": 1}, "health": {"every": "0s"}}


def up(url):
    return UP.format(url.partition("//")[2])


def body(chat, **more):
    return {"question": "hi", "streaming": True, "chatId": chat, **more}


async def test_what_a_request_of_before_has_shown_of_a_server_counts(start, connect):
    """It hears of the failure after the reload, and the server that fails is one that has stayed."""
    asked, may_fail = asyncio.Event(), asyncio.Event()

    async def script(peer, _):
        asked.set()
        await may_fail.wait()
        peer.rst()

    async with RawUpstream(script) as a, named("b") as b:
        sections = servers(a.url, b.url, **ONE_FAILURE)
        async with start(a.url, **sections) as gateway, connect(gateway) as wire:
            chat = chat_on(gateway, a.url)
            wire.post(PATH, {"question": "hi", "chatId": chat})
            await asked.wait()
            await gateway.reload(configuration(a.url, **servers(a.url, b.url, max_age="1m", **ONE_FAILURE)))
            may_fail.set()
            assert (await wire.reply()).status == 502
            assert len(await gateway.lines.until("server_down")) == 1
            wire.post(PATH, {"question": "hi", "chatId": chat})
            assert ((await wire.reply()).json(), len(a.seen)) == ({"text": "b"}, 1)
            await until(lambda: not gateway.servers()[0].standing.is_up)
            while (await gateway.metrics())[up(a.url)]:
                await asyncio.sleep(0)


async def test_a_server_that_is_removed_is_in_the_metrics_no_more(start):
    async with named("a") as a, named("b") as b, start(a.url, **servers(a.url, b.url)) as gateway:
        samples = await gateway.metrics()
        assert (samples[up(a.url)], samples[up(b.url)]) == (1, 1)
        await gateway.reload(configuration(a.url, **servers(b.url)))
        samples = await gateway.metrics()
        assert (samples.get(up(a.url)), samples[up(b.url)]) == (None, 1)
        await gateway.reload(configuration(a.url, **servers(a.url)))
        samples = await gateway.metrics()
        assert (samples[up(a.url)], samples.get(up(b.url))) == (1, None)


async def test_a_configuration_that_is_given_up_has_changed_nothing(start, connect, monkeypatch):
    """Neither the metrics, nor the connections to addresses that it would not have."""
    names = Names(monkeypatch)
    names["flowise.example"] = names["new.example"] = ["127.0.0.1"]
    async with named("a") as a, named("b") as b:
        url = a.url.replace("127.0.0.1", "flowise.example")
        new = b.url.replace("127.0.0.1", "new.example")
        async with start(url, **servers(url, discover="dns")) as gateway:
            await ask(connect, gateway)
            names["flowise.example"] = ["127.0.0.9"]
            wanted = configuration(url, **servers(url, new, discover="dns"))
            gateway.path.write_text(str(wanted))
            prepared = await gateway.process.prepare(usable(await asyncio.to_thread(read, gateway.path, {})))
            await gateway.process.abandon(prepared)
            assert up(new) not in await gateway.metrics()
            await ask(connect, gateway)
            assert a.connections == 1
            assert repr(gateway.pool()).endswith(": 1 open, 1 idle, 0 waiting>")


async def test_a_conversation_keeps_its_lock_when_servers_come_and_go(start, connect):
    held = Held()
    route = {"conversations": {"bind": False, "when_busy": "refuse"}}
    async with RawUpstream(held) as a, RawUpstream(held) as b, RawUpstream(held) as c:
        first, *others = sorted((a.url, b.url, c.url))
        async with start(a.url, route=route, **servers(*others)) as gateway, connect(gateway) as wire:
            wire.post(PATH, body("same"))
            await wire.head()
            for urls in ([first, *others], [first, others[1]], [others[1]]):
                await gateway.reload(configuration(a.url, route=route, **servers(*urls)))
                again = b'{"question":"hi","chatId":"same"}'
                assert (await ask(connect, gateway, body=again)).json()["code"] == "conversation_busy", urls
            held.may_finish.set()
            assert await wire.until(END) == TOKEN + METADATA + END


@pytest.mark.parametrize("upstream", ["main", "other"])
async def test_an_abort_goes_to_the_server_of_the_run_though_a_reload_has_removed_it(
    upstream, start, connect
):
    """Also where the whole upstream is gone. In that case the conversation is another one's by now."""
    held = Held()
    async with RawUpstream(held) as a, named("b") as b:
        async with start(a.url) as gateway, connect(gateway) as wire:
            wire.post(PATH, body("same"))
            await wire.head()
            sections = configuration(b.url, route={"upstream": upstream})
            sections["upstreams"] = {upstream: {"servers": [{"url": b.url}]}}
            await gateway.reload(sections)
            async with connect(gateway) as other:
                other.send(request("PUT", f"/api/v1/chatmessage/abort/{FLOW}/same"))
                assert (await other.reply()).status == 200
            assert (len(a.aborts), len(b.aborts)) == ((1, 0) if upstream == "main" else (0, 1))
            held.may_finish.set()
            await wire.until(END)


async def test_a_name_keeps_the_addresses_and_connections_that_it_has(start, connect, monkeypatch):
    names = Names(monkeypatch)
    names["flowise.example"] = ["127.0.0.1"]
    async with named("a") as a:
        url = a.url.replace("127.0.0.1", "flowise.example")
        async with start(url, **servers(url, discover="dns")) as gateway:
            await ask(connect, gateway)
            names["flowise.example"] = NO_SUCH_NAME
            await gateway.reload(configuration(url, **servers(url, discover="dns", max_age="1m")))
            assert (await ask(connect, gateway)).json() == {"text": "a"}
            assert a.connections == 1


async def test_a_bug_in_a_reload_ends_it_as_a_refusal(start, connect, monkeypatch):
    """What waits for its end, like `systemctl reload`, hears of it, and what is served stays."""
    async with named("a") as a, start(a.url) as gateway:
        with monkeypatch.context() as flawed:
            flawed.setattr("gateway.serving.Origins", None)
            await gateway.reload(configuration(a.url))
        assert (len(gateway.lines.of("bug")), len(gateway.lines.of("config_refused"))) == (1, 1)
        await gateway.reload(configuration(a.url))
        assert len(gateway.lines.of("config_reloaded")) == 1
        assert (await ask(connect, gateway)).json() == {"text": "a"}


async def test_a_look_up_that_began_before_the_reload_drains_nothing(start, connect, monkeypatch):
    names = Names(monkeypatch)
    names["flowise.example"] = ["127.0.0.1"]
    async with named("a") as a:
        url = a.url.replace("127.0.0.1", "flowise.example")
        async with start(url, **servers(url, discover="dns")) as gateway:
            await ask(connect, gateway)
            before, after = gateway.succeed(gateway.upstream().settings)
            after._discovery._next = math.inf
            names["flowise.example"] = ["127.0.0.9"]
            await before._discovery.run(0.0)
            assert len(gateway.lines.of("addresses_changed")) == 1
            assert (await ask(connect, gateway)).json() == {"text": "a"}
            assert a.connections == 1
