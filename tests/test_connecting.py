"""A name with several addresses: they race, whatever the first one does."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from time import monotonic

import pytest

from gateway import connecting
from gateway.connecting import HEAD_START, destination, is_address, look_up
from tests.harness import bounds
from tests.harness.frames import PATH
from tests.harness.ports import closed_port
from tests.harness.servers import NO_SUCH_NAME, Names, named, servers, swallowing
from tests.harness.surface import answer_with_store

NAME = "flowise.example"
CERTS = Path(__file__).parent / "harness" / "certs"


@pytest.fixture
async def names(monkeypatch):
    return Names(monkeypatch)


async def serve(reader, writer):
    writer.write(b"hello")
    writer.close()


@pytest.fixture
async def port():
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def greeting(port, tls=None):
    reader, writer = await asyncio.open_connection(**await destination(NAME, port, tls))
    try:
        return await reader.read(), writer.get_extra_info("peername")[0]
    finally:
        writer.close()


@pytest.mark.parametrize("first", ["127.0.0.3", "::1"])
async def test_an_address_that_swallows_syns_costs_its_head_start(names, port, first):
    names[NAME] = [first, "127.0.0.1"]
    with swallowing(first, port):
        began = monotonic()
        assert await greeting(port) == (
            b"hello",
            "127.0.0.1",
        )  # the system would give the first one two minutes
        assert monotonic() - began >= HEAD_START


async def test_an_address_that_refuses_costs_nothing(names, port, monkeypatch):
    monkeypatch.setattr(connecting, "HEAD_START", 2 * bounds.TEST)
    names[NAME] = ["127.0.0.3", "127.0.0.1"]
    assert await greeting(port) == (b"hello", "127.0.0.1")


async def test_all_refuse(names):
    with closed_port() as port:
        names[NAME] = ["127.0.0.1", "127.0.0.3"]
        with pytest.raises(OSError) as caught:
            await destination(NAME, port, None)
    assert "111" in str(caught.value)


async def test_one_address_and_an_address_itself_need_no_race(names, port):
    names[NAME] = ["127.0.0.1"]
    assert await destination(NAME, port, None) == {"host": "127.0.0.1", "port": port}
    names.asked.clear()
    assert await destination("127.0.0.1", port, None) == {"host": "127.0.0.1", "port": port}
    assert await destination("::1", port, None) == {"host": "::1", "port": port}
    assert names.asked == []


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.3", "127.0.0.1"]])
async def test_the_certificate_is_that_of_the_name(names, addresses):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / "server.pem", CERTS / "server-key.pem")
    trusting = ssl.create_default_context(cafile=CERTS / "ca.pem")
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        names[NAME] = addresses
        with pytest.raises(ssl.SSLCertVerificationError):
            await greeting(port, trusting)
        names["localhost"] = addresses
        _, writer = await asyncio.open_connection(**await destination("localhost", port, trusting))
        writer.close()


@pytest.mark.parametrize("found", [NO_SUCH_NAME, []])
async def test_a_name_without_an_address(names, found):
    names[NAME] = found
    with pytest.raises(OSError) as caught:
        await destination(NAME, 80, None)
    assert isinstance(caught.value, socket.gaierror)


async def test_an_impossible_name_is_an_error():
    with pytest.raises((OSError, UnicodeError)):
        await look_up("a" * 70 + ".example", 80)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("1.2.3.4", True), ("::1", True), ("fe80::1%eth0", True), ("a.example", False), ("1.2.3", False)],
)
def test_what_is_an_address(host, expected):
    assert is_address(host) is expected


async def test_a_prediction_through_a_name_whose_first_address_swallows(names, start, connect):
    async with named("a") as upstream:
        port = int(upstream.url.rpartition(":")[2])
        names[NAME] = ["127.0.0.3", "127.0.0.1"]
        with swallowing("127.0.0.3", port):
            sections = servers(f"http://{NAME}:{port}", timeouts={"connect": "5s"})  # then it would be a 502
            async with start(upstream.url, **sections) as gateway, connect(gateway) as wire:
                wire.post(PATH, {"question": "hi"})
                assert (await wire.reply()).status == 200


@pytest.mark.parametrize("scheme", ["redis"])
async def test_the_limit_store_is_reached_past_an_address_that_swallows(
    names, start, connect, valkey, scheme
):
    names["store.example"] = ["127.0.0.3", "127.0.0.1"]
    url = valkey.url.replace("127.0.0.1", "store.example")
    port = int(valkey.url.rpartition(":")[2].partition("/")[0])
    with swallowing("127.0.0.3", port):
        async with named("a") as upstream:
            sections = {"limits": {"store": url, "when_store_fails": "closed"}, "auth": {"secret": "s" * 32}}
            rule = {"name": "all", "requests": 5, "per": "1h", "by": "route"}
            async with start(upstream.url, route={"limits": [rule]}, **sections) as gateway:
                await gateway.lines.until("limit_store_up")
                assert (await answer_with_store(connect, gateway)).status == 200
