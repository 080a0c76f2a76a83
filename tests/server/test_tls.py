"""TLS on the public port: what clients get, what is refused, and the certificate that follows its files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest

from gateway.aio import Tasks
from gateway.config import LogSettings, PortTlsSettings
from gateway.server import tls
from gateway.server.tls import Certificate, Reports
from gateway.telemetry.logs import make_logger
from tests.harness import bounds
from tests.harness.certificates import YEARS, Authority
from tests.harness.held_stream import TOKEN, Held
from tests.harness.raw_client import Wire, request
from tests.harness.raw_upstream import RawUpstream
from tests.harness.surface import PREDICT, answering

NOWHERE = "http://127.0.0.1:1"
NAME = "flowise_gateway_tls_certificate_expiry_timestamp_seconds"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def pair(authority):
    return authority.pair()


@pytest.fixture
def often(monkeypatch, hurried):
    """Look at the files every 20 ms; a new pair has 200 ms to be whole."""
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(tls, "PATIENCE", 0.2)


def to(gateway, context, **options):
    return Wire.to("localhost", gateway.port, ssl=context, **options)


async def pong(wire):
    wire.send(request("GET", "/api/v1/ping"))
    return (await wire.reply()).body


async def serial(gateway, context):
    """The number of the certificate that a new connection gets."""
    async with await to(gateway, context) as wire:
        assert await pong(wire) == b"pong"
        return wire.writer.get_extra_info("peercert")["serialNumber"]


async def failed(gateway, count=1):
    return [
        (line["result"], line["client"]) for line in await gateway.lines.until("tls_handshake_failed", count)
    ]


async def test_requests_pass_and_the_connection_is_kept(start, authority, pair):
    async with answering() as upstream, start(upstream.url, server={"tls": pair.settings}) as gateway:
        async with await to(gateway, authority.client()) as wire:
            for _ in range(2):
                assert await pong(wire) == b"pong"
            assert wire.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            assert wire.writer.get_extra_info("ssl_object").selected_alpn_protocol() is None
        assert {line["client"] for line in gateway.lines.of("request")} == {"127.0.0.1"}
        assert (await gateway.metrics())['flowise_gateway_tls_handshakes_total{result="ok"}'] == 1


async def test_what_is_no_handshake_ends_cleanly_and_is_logged(start, authority, pair):
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(authority.ca)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    settings = {"tls": {**pair.settings, "min_version": "1.3"}}
    async with start(NOWHERE, server=settings) as gateway:
        async with await Wire.to("127.0.0.1", gateway.port) as wire:
            wire.send(request("GET", "/api/v1/ping"))
            reply = await wire.reply()
            assert (reply.status, reply.json()["code"]) == (400, "bad_request")
            assert reply.json()["message"].startswith("This port takes HTTPS only.")
            assert await wire.reader.read() == b""
        async with await Wire.to("127.0.0.1", gateway.port) as wire:
            wire.send(b"\x00\x01\x02")
            assert await wire.reader.read() == b""
        with pytest.raises(OSError):
            await to(gateway, old)
        async with await Wire.to("127.0.0.1", gateway.port) as wire:
            wire.send(b"\x16\x03\x01\xff\xff")
            assert await wire.reader.read() == b""
        assert [result for result, _ in await failed(gateway, 4)] == [
            "plain_http",
            "not_tls",
            "version",
            "failed",
        ]
        assert await serial(gateway, authority.client())
        assert not gateway.lines.of("bug")


async def test_of_equal_failures_of_one_address_the_first_is_logged_and_then_their_number(start, pair):
    async with start(NOWHERE, server={"tls": pair.settings}) as gateway:
        for first in [b"\x00"] * 5 + [b"GET / HTTP/1.1\r\n\r\n"] * 2:
            async with await Wire.to("127.0.0.1", gateway.port) as wire:
                wire.send(first)
                await wire.reader.read()
        assert [result for result, _ in await failed(gateway, 2)] == ["not_tls", "plain_http"]
        metrics = await gateway.metrics()
        assert metrics['flowise_gateway_tls_handshakes_total{result="not_tls"}'] == 5
        assert metrics['flowise_gateway_tls_handshakes_total{result="plain_http"}'] == 2
    counted = [
        (line["result"], line["client"], line.get("count"))
        for line in gateway.lines.of("tls_handshake_failed")
    ]
    assert counted[2:] == [("not_tls", "127.0.0.1", 4), ("plain_http", "127.0.0.1", 1)]


async def test_a_client_that_leaves_before_its_handshake_is_counted_and_not_logged(start, pair):
    async with start(NOWHERE, server={"tls": pair.settings}) as gateway:
        for first in (b"", b"\x16"):
            wire = await Wire.to("127.0.0.1", gateway.port)
            wire.send(first)
            await wire.writer.drain()
            await wire.close()
        while (await gateway.metrics()).get('flowise_gateway_tls_handshakes_total{result="left"}') != 2:
            await asyncio.sleep(0)
        assert not gateway.lines.of("tls_handshake_failed")
        assert not gateway.connections()


@pytest.mark.parametrize("begins", [b"", b"\x16\x03\x01"], ids=["nothing", "half a hello"])
async def test_a_slow_handshake_ends_with_the_deadline_of_a_head(begins, start, hurried, pair):
    server = {"tls": pair.settings, "timeouts": {"headers": "100ms"}}
    async with start(NOWHERE, server=server) as gateway:
        async with await Wire.to("127.0.0.1", gateway.port) as wire:
            wire.send(begins)
            assert await wire.reader.read() == b""
        (line,) = await gateway.lines.until("connection_closed")
        assert (line["reason"], line["client"]) == ("slow_handshake", "127.0.0.1")
        assert not gateway.connections()
        metrics = await gateway.metrics()
        assert metrics['flowise_gateway_connections_closed_total{reason="slow_handshake"}'] == 1
        assert metrics['flowise_gateway_tls_handshakes_total{result="aborted"}'] == 1


async def test_the_head_has_what_the_handshake_left_of_the_time(start, hurried, authority, pair):
    server = {"tls": pair.settings, "timeouts": {"headers": "300ms"}}
    async with start(NOWHERE, server=server) as gateway:
        plain = socket.create_connection(("127.0.0.1", gateway.port))
        plain.setblocking(False)
        while not gateway.connections():
            await asyncio.sleep(0)
        (handshake,) = gateway.connections()
        due = handshake.head_due
        options = {"ssl": authority.client(), "server_hostname": "localhost"}
        async with Wire(*await asyncio.open_connection(sock=plain, **options)) as wire:
            while handshake in gateway.connections():  # the client of TLS 1.3 is done before the server
                await asyncio.sleep(0)
            (connection,) = gateway.connections()
            assert connection.head_due == due
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                assert await wire.reader.read() == b""
        (line,) = await gateway.lines.until("connection_closed")
        assert line["reason"] == "slow_head"


async def test_handshakes_count_against_the_connections_of_an_address(start, authority, pair):
    server = {"tls": pair.settings, "max_connections_per_address": 2}
    async with start(NOWHERE, server=server) as gateway:
        async with (
            await Wire.to("127.0.0.1", gateway.port) as silent,
            await to(gateway, authority.client()) as wire,
        ):
            assert await pong(wire) == b"pong"
            assert len(gateway.connections()) == 2
            async with await Wire.to("127.0.0.1", gateway.port) as third:
                assert await third.reader.read() == b""
            (line,) = await gateway.lines.until("connection_closed")
            assert line["reason"] == "max_connections_per_address"
            assert await pong(wire) == b"pong"
            silent.send(b"x")
            assert await silent.reader.read() == b""
        assert await serial(gateway, authority.client())


async def test_mutual_tls(start, tmp_path, authority, pair):
    (tmp_path / "others").mkdir()
    others = Authority(tmp_path / "others")
    settings = {**pair.settings, "client_ca": str(authority.ca)}
    known = authority.client(authority.pair("client", subject="backend"))
    unknown = authority.client(others.pair("client", subject="backend"))
    async with start(NOWHERE, server={"tls": settings}) as gateway:
        for context in (authority.client(), unknown):
            with contextlib.suppress(OSError):  # in TLS 1.3 the client has finished before it is refused
                async with await to(gateway, context) as wire:
                    assert await wire.reader.read() == b""
        assert [result for result, _ in await failed(gateway, 2)] == ["client_certificate"] * 2
        assert await serial(gateway, known)
        assert (await gateway.lines.request())["client_certificate"] == "commonName=backend"


async def test_a_stream_that_is_cut_has_no_orderly_end(start, authority, pair):
    """A client of TLS must be able to tell that something is missing."""
    async with answering() as upstream, start(upstream.url, server={"tls": pair.settings}) as gateway:
        async with await to(gateway, authority.client()) as wire:
            assert await pong(wire) == b"pong"
            (connection,) = gateway.connections()
            connection.abort()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                assert await wire.reader.read() == b""


def raw_socket(wire):
    """The connection below TLS, as another descriptor."""
    return socket.socket(fileno=os.dup(wire.writer.get_extra_info("socket").fileno()))


def close_in_order(wire):
    wire.writer.close()


def reset(wire):
    wire.reset()


def end_without_a_word(wire):
    """A FIN without the close of TLS, as of a process that was killed."""
    with raw_socket(wire) as below:
        below.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("leave", [close_in_order, reset, end_without_a_word])
async def test_a_client_that_leaves_a_stream_is_noticed(leave, start, authority, pair):
    flowise = Held()
    async with RawUpstream(flowise) as upstream:
        async with start(upstream.url, server={"tls": pair.settings}) as gateway:
            wire = await to(gateway, authority.client())
            wire.post(PREDICT, {"question": "hi", "streaming": True})
            await wire.head()
            assert await wire.until(TOKEN) == TOKEN
            leave(wire)
            while gateway.connections():
                await asyncio.sleep(0)
            flowise.may_finish.set()
            assert (await gateway.lines.request())["outcome"] == "client_closed"
            assert not gateway.lines.of("bug")
            wire.writer.transport.abort()


# -- the certificate ------------------------------------------------------------------------------


async def test_a_renewed_certificate_is_used_for_new_connections(start, often, authority, pair):
    async with start(NOWHERE, server={"tls": pair.settings}) as gateway:
        first = await serial(gateway, authority.client())
        async with await to(gateway, authority.client()) as opened:
            until = timedelta(days=90)
            authority.pair(valid=(-YEARS, until))
            await gateway.lines.until("tls_certificate_loaded", 2)
            assert await serial(gateway, authority.client()) != first
            assert await pong(opened) == b"pong"
        expires = (await gateway.metrics())[f'{NAME}{{certificate="tls.crt"}}']
        assert abs(expires - (datetime.now(UTC) + until).timestamp()) < 60
        assert gateway.lines.of("tls_certificate_loaded")[0]["names"] == ["localhost", "127.0.0.1"]


async def test_the_end_is_no_bug_while_the_files_are_looked_at_and_after(pair, monkeypatch):
    began, may_go_on, bugs = threading.Event(), threading.Event(), []
    tasks = Tasks(bugs.append)
    settings = PortTlsSettings.model_construct(certificate=pair.certificate, key=pair.key)
    certificate = Certificate(settings, tasks, make_logger(LogSettings()), Reports())
    await certificate.start()
    monkeypatch.setattr(tls, "digest_of", lambda _: b"another")
    certificate.tick(100.0)
    await tasks.join(bounds.TEST)

    def slow(_):
        began.set()
        may_go_on.wait(bounds.TEST)
        return b"another"  # for the second time: now it is loaded

    monkeypatch.setattr(tls, "digest_of", slow)
    certificate.tick(200.0)
    await asyncio.to_thread(began.wait)
    closing = asyncio.ensure_future(certificate.close())
    await asyncio.wait([closing], timeout=0.05)
    may_go_on.set()
    await closing
    certificate.tick(300.0)
    await tasks.join(bounds.TEST)
    assert bugs == []


async def test_a_swapped_link_is_a_change(start, often, authority, tmp_path):
    """As in a volume of Kubernetes: the files are links into a folder whose link is replaced."""
    pairs = [authority.pair() for _ in range(1)]
    for version in ("1", "2"):
        folder = tmp_path / version
        folder.mkdir()
        made = authority.pair()
        made.certificate.rename(folder / "tls.crt")
        made.key.rename(folder / "tls.key")
    (tmp_path / "..data").symlink_to("1")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    async with start(NOWHERE, server={"tls": pairs[0].settings}) as gateway:
        first = await serial(gateway, authority.client())
        (tmp_path / "..new").symlink_to("2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        await gateway.lines.until("tls_certificate_loaded", 2)
        assert await serial(gateway, authority.client()) != first


async def test_a_pair_whose_halves_come_one_after_the_other_is_no_mistake(
    start, often, authority, pair, tmp_path
):
    (tmp_path / "next").mkdir()
    renewed = authority.pair("renewed")
    async with start(NOWHERE, server={"tls": pair.settings}) as gateway:
        first = await serial(gateway, authority.client())
        pair.certificate.write_bytes(renewed.certificate.read_bytes())
        await gateway.looks_at_certificate(5)
        assert await serial(gateway, authority.client()) == first
        pair.key.write_bytes(renewed.key.read_bytes())
        await gateway.lines.until("tls_certificate_loaded", 2)
        assert await serial(gateway, authority.client()) != first
        assert not gateway.lines.of("tls_certificate_broken")


def break_key(authority, pair):
    pair.key.write_bytes(authority.pair("other").key.read_bytes())
    return "does not fit the certificate"


def remove(_, pair):
    pair.certificate.unlink()
    return "is not a readable file"


def expire(authority, _):
    authority.pair(valid=(-YEARS, timedelta(days=-1)))
    return "the certificate expired on"


def empty(_, pair):
    pair.certificate.write_bytes(b"")
    return "holds no certificate"


@pytest.mark.parametrize("spoil", [break_key, remove, expire, empty])
async def test_with_a_mistake_the_old_one_stays_and_one_line_says_why(spoil, start, often, authority, pair):
    before = pair.certificate.read_bytes(), pair.key.read_bytes()
    async with start(NOWHERE, server={"tls": pair.settings}) as gateway:
        first = await serial(gateway, authority.client())
        said = spoil(authority, pair)
        (line,) = await gateway.lines.until("tls_certificate_broken")
        assert said in line["mistakes"][0]
        await gateway.looks_at_certificate(10)
        assert len(gateway.lines.of("tls_certificate_broken")) == 1
        assert await serial(gateway, authority.client()) == first
        pair.certificate.write_bytes(before[0])
        pair.key.write_bytes(before[1])
        authority.pair()
        await gateway.lines.until("tls_certificate_loaded", 2)
        assert (await gateway.metrics())['flowise_gateway_config_reloads_total{result="error"}'] == 1


async def test_a_reload_applies_tls_and_says_what_waits_for_a_restart(start, hurried, authority, pair):
    other = authority.pair("other")
    async with start(NOWHERE, server={"tls": pair.settings}) as gateway:
        first = await serial(gateway, authority.client())
        text = gateway.path.read_text()
        await gateway.reload(text.replace("tls.crt", "other.crt").replace("tls.key", "other.key"))
        assert gateway.lines.of("config_reloaded")[0]["changed"] == ["server.tls"]
        assert await serial(gateway, authority.client()) != first
        other.key.unlink()
        await gateway.reload(gateway.path.read_text() + "logs: {level: debug}\n")
        assert gateway.lines.of("config_mistake")[0]["key"] == "server.tls.key"
        without = "\n".join(line for line in text.splitlines() if ".crt" not in line and ".key" not in line)
        await gateway.reload(without.replace("  tls:", "  tls: {}"))
        (line,) = gateway.lines.of("needs_restart")
        assert line["keys"] == ["server.tls"]
        assert await serial(gateway, authority.client()) != first


async def test_a_crowd_of_handshakes_is_served(start, authority, pair):
    server = {"tls": pair.settings, "max_connections_per_address": 1000}
    async with start(NOWHERE, server=server) as gateway:
        context = authority.client()
        wires = await asyncio.gather(*(to(gateway, context) for _ in range(50)))
        assert await asyncio.gather(*map(pong, wires)) == [b"pong"] * 50
        for wire in wires:
            await wire.close()


async def test_without_a_delay_of_small_writes(start, authority, pair):
    async with start(NOWHERE, server={"tls": pair.settings}) as gateway:
        async with await to(gateway, authority.client()) as wire:
            assert await pong(wire) == b"pong"
            (connection,) = gateway.connections()
            plain = connection.transport.get_extra_info("socket")
            assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
