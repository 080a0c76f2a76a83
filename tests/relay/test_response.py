"""The head of a relayed response is what aiohttp would write, and what comes together leaves together."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import sys
from types import SimpleNamespace

import pytest
from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.http_writer import StreamWriter
from aiohttp.test_utils import make_mocked_request

from gateway.relay.call import MOST_EARLY, UpstreamCall
from gateway.relay.client import ClientStream
from gateway.relay.response import RelayedResponse
from gateway.relay.writers import RawWriter
from gateway.upstream.connection import Connection
from gateway.upstream.large_reads import LargeReads
from gateway.upstream.response_parser import BodyEnd
from tests.harness.frames import END, METADATA, PATH, START, stream, token
from tests.harness.raw_client import request
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream
from tests.harness.scripted_pool import OnlyPool, RecordingListener, RecordingWriter, ask, deadlines

FIELDS = {"Content-Type": "text/event-stream", "X-Request-ID": "r", "Server": "flowise-gateway"}
DATED = {**FIELDS, "Date": "Sat, 21 Nov 2026 03:45:51 GMT"}
DATA_SEGMENTS_IN = 152  # the place of `tcpi_data_segs_in` in the `tcp_info` of Linux


class Written:
    """A transport, and aiohttp's writer to it."""

    def __init__(self):
        self.bytes = b""

    def write(self, data):
        self.bytes += data

    def is_closing(self):
        return False


class Transport(Written):
    """To an upstream; records whether it is read."""

    is_read = True

    def set_write_buffer_limits(self, high):
        pass

    def pause_reading(self):
        self.is_read = False

    def resume_reading(self):
        self.is_read = True


def asked(version, written, *, closing=False):
    protocol = SimpleNamespace(transport=written, peername=None, sockname=None, ssl_context=None)
    writer = StreamWriter(protocol, asyncio.get_running_loop())
    return make_mocked_request(
        "POST", "/", version=version, closing=closing, writer=writer, protocol=protocol, transport=written
    )


@pytest.mark.parametrize("version", [HttpVersion11, HttpVersion10])
@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize(
    ("status", "fields", "length"),
    [
        (200, DATED, None),
        (200, DATED, 3),
        (500, DATED, 0),
        (404, {"Date": DATED["Date"]}, 5),
        (404, {"Date": DATED["Date"]}, 0),
        (299, {**DATED, "Content-Disposition": "caf\u00e9"}, None),
    ],
)
async def test_a_head_is_the_one_of_aiohttp(version, closing, status, fields, length):
    written = Written()
    theirs = web.StreamResponse(status=status, headers={**fields, "Server": "flowise-gateway"})
    theirs.content_length = length
    if version == HttpVersion10:
        theirs.force_close()
    await theirs.prepare(asked(version, written, closing=closing))
    request = asked(version, Written(), closing=closing)
    ours = RelayedResponse(request, status, {**fields, "Server": "flowise-gateway"}, length)
    assert ours.head == written.bytes
    assert ours.keep_alive == theirs.keep_alive
    assert ours.is_chunked == (hdrs.TRANSFER_ENCODING in theirs.headers)


async def test_a_head_without_a_date_gets_one():
    head = RelayedResponse(asked(HttpVersion11, Written()), 200, FIELDS, None).head
    assert head.count(b"\r\nDate: ") == 1


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\x00", "a\x7f"])
async def test_no_value_can_end_a_head_or_begin_another_field(value):
    with pytest.raises(ValueError, match="control character"):
        RelayedResponse(asked(HttpVersion11, Written()), 200, {**DATED, "ETag": value}, None)


def segments(client):
    """How many packets with data the socket has received."""
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("=I", info, DATA_SEGMENTS_IN)[0]


def reading(gateway, steps):
    """Ask for a stream and read it to its end; `steps`: what to do once this has come. Returns it, and its packets."""
    with socket.create_connection((gateway.host, gateway.port)) as client:
        client.sendall(request("POST", PATH, b'{"question":"hi","streaming":true,"chatId":"chat-1"}'))
        got = b""
        while not got.endswith(b"0\r\n\r\n"):
            got += client.recv(65536)
            if steps and steps[0][0] in got:
                steps.pop(0)[1]()
        return got, segments(client)


@pytest.mark.skipif(sys.platform != "linux", reason="reads tcp_info of Linux")
async def test_what_comes_in_one_read_leaves_in_one_packet(start):
    async def script(peer, _):
        stream(peer, START, token("a") + METADATA + END)

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        got, packets = await asyncio.to_thread(reading, gateway, [])
    assert got.partition(b"\r\n\r\n")[2] == b"%x\r\n%b\r\n0\r\n\r\n" % (
        len(START + token("a") + METADATA + END),
        START + token("a") + METADATA + END,
    )
    assert packets == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads tcp_info of Linux")
async def test_a_head_does_not_wait_for_events_and_the_last_chunk_leaves_with_the_last_event(start):
    loop, head_seen, event_seen = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        await head_seen.wait()
        peer.chunk(START)
        await event_seen.wait()
        peer.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(METADATA + END), METADATA + END))

    steps = [
        (b"\r\n\r\n", lambda: loop.call_soon_threadsafe(head_seen.set)),
        (START, lambda: loop.call_soon_threadsafe(event_seen.set)),
    ]
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        got, packets = await asyncio.to_thread(reading, gateway, steps)
    assert got.count(b"0\r\n\r\n") == 1
    assert packets == 3


class ClientTransport(Written):
    """Records its end too."""

    is_closed = False

    def close(self):
        self.is_closed = True

    def set_write_buffer_limits(self, high):
        pass

    def set_protocol(self, protocol):
        pass


async def test_a_body_that_breaks_off_before_its_first_byte_is_cut_behind_the_head():
    transport = ClientTransport()
    request = asked(HttpVersion11, transport)
    client = ClientStream(request, None, 1.0)
    client.open(RelayedResponse(request, 200, DATED, 9))
    RawWriter(client).end(BodyEnd.CUT, is_complete=False)
    assert transport.bytes.startswith(b"HTTP/1.1 200 OK\r\n")
    assert transport.is_closed


async def test_little_is_read_before_there_is_a_writer_and_none_of_it_is_lost():
    transport = Transport()
    connection = Connection(lambda _: None, lambda _: None, LargeReads())
    connection.connection_made(transport)
    connection.usable_until = math.inf
    call = UpstreamCall(
        RecordingListener(), deadlines(), OnlyPool(SimpleNamespace(take_idle=lambda: connection))
    )
    sending = asyncio.create_task(call.send(ask()))
    await asyncio.sleep(0)
    connection.data_received(STREAM_HEAD)
    body = b"".join(token(str(number)) for number in range(MOST_EARLY))
    for number in range(MOST_EARLY):
        assert transport.is_read
        piece = token(str(number))
        connection.data_received(b"%x\r\n%b\r\n" % (len(piece), piece))
    assert not transport.is_read
    assert (await sending).status == 200
    call.attach(writer := RecordingWriter())
    assert transport.is_read
    assert writer.body == body
