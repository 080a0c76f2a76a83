"""`discover: dns`: a name stands for all its addresses, also when they change."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from gateway import aio
from gateway.upstream import discovery
from tests.harness.clock import until
from tests.harness.frames import END, PATH, START, token
from tests.harness.gateway import FLOW
from tests.harness.held_stream import Held
from tests.harness.raw_upstream import RawUpstream
from tests.harness.servers import NO_SUCH_NAME, Names

NAME = "flowise.svc.example"


@pytest.fixture
async def names(monkeypatch):
    """Looked up every 10 ms in place of 10 s."""
    monkeypatch.setattr(aio, "INTERVAL", 0.01)
    monkeypatch.setattr(discovery, "EVERY", 0.01)
    return Names(monkeypatch)


@asynccontextmanager
async def replicas(*addresses, script=None):
    """A Flowise for each address of one port, by address; each answers with its address."""
    found = {}
    port = 0
    for address in addresses:

        async def says(peer, _, address=address):
            peer.answer(b'{"text":"%b"}' % address.encode())

        found[address] = RawUpstream(script or says)
        found[address]._server = await asyncio.start_server(found[address]._serve, address, port)
        port = found[address]._server.sockets[0].getsockname()[1]
    try:
        yield found, port
    finally:
        for upstream in found.values():
            await upstream.__aexit__()


def upstream(port, **keys):
    return {"upstreams": {"main": {"servers": [{"url": f"http://{NAME}:{port}"}], "discover": "dns", **keys}}}


async def ask(gateway, connect, chat_id):
    async with connect(gateway) as wire:
        wire.post(PATH, {"question": "hi", "chatId": chat_id})
        return await wire.reply()


def addresses(gateway):
    return {server.place.address for server in gateway.servers()}


async def test_a_name_stands_for_all_its_addresses_and_follows_them(names, start, connect):
    async with replicas("127.0.0.1", "127.0.0.2", "127.0.0.3") as (found, port):
        names[NAME] = ["127.0.0.1", "127.0.0.2"]
        async with start("http://x", **upstream(port)) as gateway:
            assert addresses(gateway) == {"127.0.0.1", "127.0.0.2"}
            chats = [f"chat-{number}" for number in range(30)]
            before = {chat: (await ask(gateway, connect, chat)).json()["text"] for chat in chats}
            assert set(before.values()) == {"127.0.0.1", "127.0.0.2"}

            names[NAME] = ["127.0.0.2", "127.0.0.1", "127.0.0.3"]
            (_, line) = await gateway.lines.until("addresses_changed", 2)
            assert (line["server"], line["added"], line["removed"]) == (f"{NAME}:{port}", ["127.0.0.3"], [])
            after = {chat: (await ask(gateway, connect, chat)).json()["text"] for chat in chats}
            assert all(after[chat] in (before[chat], "127.0.0.3") for chat in chats)
            assert "127.0.0.3" in after.values()

            names[NAME] = ["127.0.0.1", "127.0.0.2"]
            await gateway.lines.until("addresses_changed", 3)
            assert {chat: (await ask(gateway, connect, chat)).json()["text"] for chat in chats} == before
            samples = await gateway.metrics()
    assert found["127.0.0.1"].seen[0].fields["host"] == f"{NAME}:{port}"
    labels = [key for key in samples if "upstream" in key and "server=" in key]
    assert labels
    assert all(f'server="{NAME}:{port}"' in key for key in labels)


async def test_a_run_on_an_address_that_is_gone_goes_on(names, start, connect):
    held = Held()
    async with replicas("127.0.0.1", "127.0.0.2", script=held) as (found, port):
        names[NAME] = ["127.0.0.1"]
        async with start("http://x", **upstream(port)) as gateway, connect(gateway) as wire:
            wire.post(PATH, {"question": "hi", "streaming": True, "chatId": "c"})
            await wire.head()
            (server,) = gateway.servers()
            names[NAME] = ["127.0.0.2"]
            await until(lambda: addresses(gateway) == {"127.0.0.2"})
            held.may_finish.set()
            assert b"[DONE]" in await wire.until(b"[DONE]")
            await until(lambda: server.is_drained)
            assert found["127.0.0.1"].aborts == []


async def test_a_name_that_cannot_be_looked_up_keeps_its_addresses(names, start, connect):
    async with replicas("127.0.0.1") as (_, port):
        names[NAME] = ["127.0.0.1"]
        async with start("http://x", **upstream(port)) as gateway:
            names[NAME] = NO_SUCH_NAME
            (line,) = await gateway.lines.until("lookup_failed")
            assert (line["reason"], line["has_addresses"]) == ("no such name", True)
            assert (await ask(gateway, connect, "c")).status == 200
            asked = len(names.asked)
            await until(lambda: len(names.asked) > asked + 3)
            assert len(gateway.lines.of("lookup_failed")) == 1  # not at every look-up


async def test_a_name_that_never_had_an_address_is_a_502_with_the_reason(names, start, connect):
    async with replicas("127.0.0.1") as (_, port):
        names[NAME] = NO_SUCH_NAME
        async with start("http://x", **upstream(port)) as gateway:
            reply = await ask(gateway, connect, "c")
            line = await gateway.lines.request()
            samples = await gateway.metrics()
            assert (reply.status, reply.json()["message"]) == (502, "Flowise cannot be reached.")
            assert line["error"].endswith("(no such name)")
            up = f'flowise_gateway_upstream_server_up{{server="{NAME}:{port}",upstream="main"}}'
            assert samples[up] == 0
            names[NAME] = ["127.0.0.1"]
            await until(lambda: len(gateway.servers()) == 1)
            assert (await ask(gateway, connect, "c")).status == 200
            assert (await gateway.metrics())[up] == 1


async def test_an_address_that_is_down_is_a_part_of_its_name(names, start, connect):
    async with replicas("127.0.0.1") as (_, port):
        names[NAME] = ["127.0.0.1", "127.0.0.2"]
        health = {"every": "20ms", "timeout": "20ms", "fall": 2}
        async with start("http://x", **upstream(port, health=health)) as gateway:
            (line,) = await gateway.lines.until("server_down")
            assert (line["address"], line["reason"]) == ("127.0.0.2", "connection refused")
            for number in range(8):
                assert (await ask(gateway, connect, f"chat-{number}")).status == 200
            samples = await gateway.metrics()
    assert samples[f'flowise_gateway_upstream_server_up{{server="{NAME}:{port}",upstream="main"}}'] == 0.5


async def test_upstreams_that_meet_at_an_address_share_locks(names, start, connect):
    held = Held(START + token("a"), END)
    async with replicas("127.0.0.1", script=held) as (_, port):
        names[NAME] = ["127.0.0.1"]
        upstreams = upstream(port)["upstreams"] | {
            "other": {"servers": [{"url": f"http://127.0.0.1:{port}"}]}
        }
        routes = [
            {"name": "one", "chatflow": FLOW, "upstream": "main", "auth": ["anonymous"]},
            {
                "name": "two",
                "chatflow": FLOW.replace("3", "4", 1),
                "upstream": "other",
                "auth": ["anonymous"],
            },
        ]
        defaults = {"conversations": {"bind": False, "when_busy": "refuse"}}
        async with start("http://x", upstreams=upstreams, routes=routes, defaults=defaults) as gateway:
            async with connect(gateway) as first, connect(gateway) as second:
                body = {"question": "hi", "streaming": True, "chatId": "same"}
                first.post("/api/v1/prediction/one", body)
                await first.head()
                second.post("/api/v1/prediction/two", body)
                assert (await second.reply()).json()["code"] == "conversation_busy"
                held.may_finish.set()
                await first.until(b"[DONE]")


async def test_the_start_does_not_wait_for_a_name_server_that_is_silent(names, start, connect, monkeypatch):
    monkeypatch.setattr("gateway.upstream.upstream.START_WITHIN", 0.05)
    answered = asyncio.Event()
    ask_system = names._getaddrinfo

    async def silent(host, port, **options):
        if host == NAME:
            await answered.wait()
        return await ask_system(host, port, **options)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", silent)
    async with replicas("127.0.0.1") as (_, port):
        names[NAME] = ["127.0.0.1"]
        async with start("http://x", **upstream(port)) as gateway:
            assert gateway.servers() == []
            answered.set()
            await until(gateway.servers)
            assert (await ask(gateway, connect, "c")).status == 200
