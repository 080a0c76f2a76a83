"""What a client sends behind a request whose answer is open, and connections that come to nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import struct

import pytest

from gateway.server import listener
from tests.harness.clock import until
from tests.harness.frames import ASK, PATH
from tests.harness.held_stream import Held
from tests.harness.raw_client import request
from tests.harness.raw_upstream import RawUpstream
from tests.harness.surface import PREDICT, QUESTION, answering, ask

BODY = json.dumps(ASK).encode()
PING = request("GET", "/api/v1/ping")
UPGRADE = {"Connection": "upgrade", "Upgrade": "websocket"}


@pytest.fixture
def soon(hurried, monkeypatch):
    """What is behind a request is looked at at once."""
    monkeypatch.setattr(listener, "BEHIND_FOR", 0.05)


@pytest.mark.parametrize(
    ("fields", "behind"),
    [
        ({}, PING * 64),
        (
            {},
            b"GET /api/v1/ping HTTP/1.1\r\nX-A: "
            + b"a" * 8000
            + b"\r\nX-B: "
            + b"b" * 8000
            + b"\r\nX-C: "
            + b"c" * 900,
        ),
        (UPGRADE, b"\x81\x05hello" * 20_000),
    ],
    ids=["pipelined", "half a head", "upgraded"],
)
async def test_much_behind_an_open_stream_ends_it_so_that_a_client_that_leaves_is_noticed(
    fields, behind, start, connect, soon
):
    held = Held()
    async with RawUpstream(held) as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as wire:
            if fields or behind.startswith(PING):
                wire.send(request("POST", PATH, BODY, **fields) + behind)
            else:
                wire.send(request("POST", PATH, BODY))
                await wire.head()
                await until(lambda: not gateway.watched())
                wire.send(behind)
            (closed,) = await gateway.lines.until("connection_closed")
            await upstream.aborted.wait()
            held.may_finish.set()
            line = await gateway.lines.request()
    assert closed["reason"] == "pipelined"
    assert line["outcome"] == "client_closed"


async def test_a_few_requests_behind_an_open_stream_are_answered(start, connect, soon):
    held = Held()
    async with RawUpstream(held) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(request("POST", PATH, BODY) + PING * listener.MAX_PIPELINED)
        await wire.head()
        await wire.chunk()
        await asyncio.wait([asyncio.ensure_future(gateway.lines.until("connection_closed"))], timeout=0.3)
        held.may_finish.set()
        while await wire.chunk():
            pass
        for _ in range(listener.MAX_PIPELINED):
            assert (await wire.reply()).body == b"pong"


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
async def test_a_request_to_upgrade_is_answered_and_its_connection_closed(protocol, start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        for sent in (
            request("GET", "/api/v1/ping", Connection="Upgrade", Upgrade=protocol) + PING,
            request("POST", PREDICT, QUESTION, Connection="Upgrade", Upgrade=protocol) + PING,
        ):
            async with connect(gateway) as wire:
                wire.send(sent)
                reply = await wire.reply()
                assert reply.status == 200
                assert await wire.reader.read() == b""


def reset_at_once(gateway, data):
    """Connect, send and reset before the gateway's loop can accept."""
    with socket.socket() as client:
        client.connect((gateway.host, gateway.port))
        client.sendall(data)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_a_client_that_resets_at_once_makes_no_request(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        for _ in range(20):
            reset_at_once(gateway, request("POST", PREDICT, QUESTION))
        assert (await ask(connect, gateway)).status == 200
        await until(lambda: not gateway.connections())
    assert [line["client"] for line in gateway.lines.of("request")] == ["127.0.0.1"]
    assert len(upstream.seen) == 1


class Transport(asyncio.Transport):
    """A connection from an address of choice."""

    def __init__(self, address):
        super().__init__({"peername": (address, 1, 0, 0)})
        self.is_aborted = False

    def abort(self):
        self.is_aborted = True

    def close(self):
        self.is_aborted = True

    def get_write_buffer_size(self):
        return 0


async def test_connections_of_one_ipv6_network_count_together(start):
    async with (
        answering() as upstream,
        start(upstream.url, server={"max_connections_per_address": 2}) as gateway,
    ):
        places = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "2001:db8::ffff:3", "10.0.0.1"]
        transports, connections = [Transport(place) for place in places], []
        for transport in transports:
            connections.append(gateway.listener())
            connections[-1].connection_made(transport)
        closed = [transport.is_aborted for transport in transports]
        for connection in connections:
            connection.connection_lost(None)
        assert not gateway.connections()
    assert closed == [False, False, False, True, False]
    (line,) = gateway.lines.of("connection_closed")
    assert (line["reason"], line["client"]) == ("max_connections_per_address", "2001:db8::ffff:3")


@pytest.mark.parametrize("version", ["2.0", "0.9", "1.2", "3.0", "9.9"])
async def test_another_version_of_http_is_refused_in_one_that_the_client_can_read(version, start, connect):
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(PING.replace(b"HTTP/1.1", b"HTTP/" + version.encode()))
        first = await wire.reader.readuntil(b"\r\n")
    assert first == b"HTTP/1.1 400 Bad Request\r\n"
