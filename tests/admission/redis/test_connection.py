"""The redis package behind one file: URLs, TLS, sockets, passwords, and errors that contain none of them."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.admission.redis.commands import ErrorReply, NoScript
from gateway.admission.redis.connection import RedisConnection
from gateway.admission.store import StoreError
from tests.harness.ports import closed_port
from tests.harness.slow_proxy import SlowProxy
from tests.harness.unreachable import CAUSES, no_descriptors, unreachable
from tests.harness.valkey import running_valkey

CERTS = Path(__file__).parents[2] / "harness" / "certs"
PING, PONG = ("PING",), b"PONG"
SECRET = "s3cret"


@asynccontextmanager
async def opened(url, ca=None):
    connection = RedisConnection(url, ca)
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


async def kind_of_failure(url, ca=None):
    connection = RedisConnection(url, ca)
    with pytest.raises(StoreError) as failure:
        await connection.open()
    await connection.close()
    assert failure.value.__cause__ is None
    return str(failure.value)


async def test_commands_are_answered_in_order(valkey):
    async with opened(valkey.url) as connection:
        await connection.send([PING, ("ECHO", "a")])
        await connection.send([("ECHO", 1)])
        assert [await connection.read_reply() for _ in range(3)] == [PONG, b"a", b"1"]


async def test_errors_that_leave_it_usable_are_replies(valkey):
    async with opened(valkey.url) as connection:
        await connection.send([("EVALSHA", "0" * 40, 0), ("GET",), PING])
        assert isinstance(await connection.read_reply(), NoScript)
        assert isinstance(await connection.read_reply(), ErrorReply)
        assert await connection.read_reply() == PONG


async def test_a_database_is_chosen(valkey):
    async with opened(valkey.url.replace("/0", "/3")) as connection:
        await connection.send([("SET", "a", "1")])
        await connection.read_reply()
    with valkey.client() as client:
        assert client.dbsize() == 0
        assert client.info("keyspace")["db3"]["keys"] == 1


async def test_a_unix_socket(tmp_path):
    path = tmp_path / "store.sock"
    with running_valkey(tmp_path / "data", socket_path=path):
        async with opened(f"unix://{path}?db=2") as connection:
            await connection.send([PING])
            assert await connection.read_reply() == PONG


@pytest.mark.parametrize("password", [SECRET, "%2F%23%40"])
async def test_a_password(tmp_path, password):
    plain = {"%2F%23%40": "/#@"}.get(password, password)
    with running_valkey(tmp_path, password=plain) as server:
        async with opened(f"redis://:{password}@127.0.0.1:{server.port}/0") as connection:
            await connection.send([PING])
            assert await connection.read_reply() == PONG
        for wrong in ("", ":wrong@", f"somebody:{password}@"):
            assert await kind_of_failure(f"redis://{wrong}127.0.0.1:{server.port}/0") == "auth"


@asynccontextmanager
async def tls_valkey(valkey):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / "server.pem", CERTS / "server-key.pem")
    async with SlowProxy(valkey.port, context) as proxy:
        yield proxy.port


async def test_tls_with_a_private_authority(valkey):
    async with tls_valkey(valkey) as port:
        async with opened(f"rediss://localhost:{port}/0", str(CERTS / "ca.pem")) as connection:
            await connection.send([PING])
            assert await connection.read_reply() == PONG


async def test_tls_with_the_authority_in_the_url(valkey):
    async with tls_valkey(valkey) as port:
        async with opened(f"rediss://localhost:{port}?ssl_ca_certs={CERTS / 'ca.pem'}") as connection:
            await connection.send([PING])
            assert await connection.read_reply() == PONG


@pytest.mark.parametrize(
    ("ca", "kind"),
    [
        (str(CERTS / "other-ca.pem"), "tls_authority"),
        (None, "tls_authority"),
        ("/nowhere/ca.pem", "unreachable"),
    ],
)
async def test_a_server_with_an_unknown_certificate_is_refused(valkey, ca, kind):
    async with tls_valkey(valkey) as port:
        assert await kind_of_failure(f"rediss://localhost:{port}/0", ca) == kind


@pytest.mark.parametrize("situation", CAUSES)
async def test_why_there_is_no_connection(situation, tmp_path):
    async with unreachable(situation, tmp_path) as place:
        scheme = "redis" if place.ca is None else "rediss"
        ca = None if place.ca is None else str(place.ca)
        kind = await kind_of_failure(f"{scheme}://:{SECRET}@{place.host}:{place.port}/0", ca)
    label, _ = CAUSES[situation]
    assert kind == ("connection" if label == "reset" else label)


async def test_no_file_descriptor_for_a_connection(valkey):
    with no_descriptors():
        assert await kind_of_failure(valkey.url) == "descriptors"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}#more@127.0.0.1:6379/0",
        f"redis://:{SECRET}@127.0.0.1:port/0",
        f"http://:{SECRET}@127.0.0.1/",
        f"unix:///a?password={SECRET}&db=x",
        f"unix:///a?password={SECRET}&protocol=3",
        f"unix:///a?password={SECRET}&ssl_ca_certs=/a",
    ],
)
def test_the_error_for_an_unreadable_url_contains_none_of_it(url):
    with pytest.raises(ValueError, match="write redis://HOST:PORT/0") as mistake:
        RedisConnection(url)
    assert SECRET not in str(mistake.value)
    assert mistake.value.__cause__ is None
    assert mistake.value.__suppress_context__


async def test_no_server():
    with closed_port() as port:
        assert await kind_of_failure(f"redis://:{SECRET}@127.0.0.1:{port}/0") == "refused"


async def test_a_server_that_is_no_redis():
    async def chatter(reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n$abc\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(chatter, "127.0.0.1", 0)
    async with server:
        assert (
            await kind_of_failure(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0") == "connection"
        )


async def test_a_killed_server_is_a_broken_connection(own_valkey):
    async with opened(own_valkey.url) as connection:
        own_valkey.kill()
        with pytest.raises(StoreError, match="connection"):
            await connection.read_reply()
        with pytest.raises(StoreError, match="connection"):
            await connection.send([PING])


async def test_nothing_is_sent_on_an_aborted_connection(valkey):
    async with opened(valkey.url) as connection:
        connection.abort()
        for _ in range(3):
            await asyncio.sleep(0)
            with pytest.raises(StoreError, match="connection"):
                await connection.send([PING])
        with pytest.raises(StoreError, match="connection"):
            await connection.read_reply()


async def test_it_reopens(own_valkey):
    async with opened(own_valkey.url) as connection:
        own_valkey.restart()
        await connection.close()
        await connection.open()
        await connection.send([PING])
        assert await connection.read_reply() == PONG


async def test_a_read_that_timed_out_leaves_nothing_behind(own_valkey):
    async with opened(own_valkey.url) as connection:
        own_valkey.hold()
        await connection.send([PING])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await connection.read_reply()
        with pytest.raises(StoreError, match="connection"):
            await connection.send([PING])
        await connection.close()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await connection.open()
        await connection.close()
        own_valkey.go_on()
        await connection.open()
        await connection.send([("ECHO", "fresh")])
        assert await connection.read_reply() == b"fresh"


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_a_silent_server_can_be_abandoned(scheme):
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        connection = RedisConnection(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.open()
        await connection.close()
