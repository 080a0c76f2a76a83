"""Unix sockets of the public port: their files, their permissions, and which client a peer is."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import signal
import socket
import stat
from contextlib import asynccontextmanager

import pytest
import yaml

from gateway.command_errors import CannotRunError
from gateway.health import health
from gateway.telemetry import line_lock
from tests.harness import bounds
from tests.harness.certificates import Authority
from tests.harness.gateway import configuration
from tests.harness.ports import free_port
from tests.harness.processes import gateway, run
from tests.harness.raw_client import Wire, request
from tests.harness.service_manager import Manager
from tests.harness.surface import PREDICT, QUESTION, answering

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "http.sock"


@asynccontextmanager
async def connected(path):
    wire = Wire(*await asyncio.open_unix_connection(str(path)))
    try:
        yield wire
    finally:
        await wire.close()


async def pong(wire):
    wire.send(request("GET", "/api/v1/ping"))
    return (await wire.reply()).body


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


async def test_it_serves_there_with_these_permissions_and_leaves_nothing(start, path):
    server = {"listen": ["127.0.0.1:0", f"unix:{path}"], "socket_mode": "0600"}
    async with start(NOWHERE, server=server) as gateway:
        assert mode_of(path) == 0o600
        async with connected(path) as wire, await Wire.to("127.0.0.1", gateway.port) as other:
            assert (await pong(wire), await pong(other)) == (b"pong", b"pong")
    assert not path.exists()


async def test_every_listener_serves(start, path):
    server = {"listen": ["127.0.0.1:0", "[::1]:0", f"unix:{path}", f"unix:{path}.2"]}
    async with start(NOWHERE, server=server) as gateway:
        one, other, *files = gateway.process.addresses
        assert [str(file) for file in files] == [f"unix:{path}", f"unix:{path}.2"]
        assert mode_of(path) == 0o660
        for address in (one, other):
            async with await Wire.to(address.host, address.port) as wire:
                assert await pong(wire) == b"pong"
        for file in files:
            async with connected(file.path) as wire:
                assert await pong(wire) == b"pong"


async def test_without_a_tcp_port_the_admin_port_answers_health(start, path, tmp_path):
    async with start(NOWHERE, server={"listen": f"unix:{path}"}) as gateway, connected(path) as wire:
        assert await pong(wire) == b"pong"
        other = tmp_path / "health.yaml"
        other.write_text(f"admin: {{listen: {gateway.admin[7:]}}}\nserver: {{listen: 'unix:{path}'}}\n")
        given = argparse.Namespace(config=other, admin_listen=None)
        assert (await asyncio.to_thread(health, given, {})).endswith("/readyz answers ok.")


async def test_a_peer_is_no_address_unless_it_is_trusted_to_name_one(start, path):
    async with answering() as upstream:
        for trusted, client in ([], "unix"), (["unix"], "192.0.2.7"), (["127.0.0.0/8"], "unix"):
            server = {"listen": ["127.0.0.1:0", f"unix:{path}"], "trusted_proxies": trusted}
            async with start(upstream.url, server=server) as gateway, connected(path) as wire:
                wire.post(PREDICT, QUESTION, X_Forwarded_For="192.0.2.7")
                assert (await wire.reply()).status == 200
                assert (await gateway.lines.request())["client"] == client
        sent = [seen.fields.get("x-forwarded-for") for seen in upstream.seen if seen.method == "POST"]
        assert sent == [None, "192.0.2.7", None]


async def test_a_forwarded_word_is_no_trusted_peer(start, path):
    async with answering() as upstream:
        server = {"listen": ["127.0.0.1:0", f"unix:{path}"], "trusted_proxies": ["unix"]}
        async with start(upstream.url, server=server) as gateway, connected(path) as wire:
            wire.post(PREDICT, QUESTION, X_Forwarded_For="192.0.2.7, unix")
            assert (await wire.reply()).status == 200
            assert (await gateway.lines.request())["client"] == "unix"


@pytest.mark.parametrize(("trusted", "is_limited"), [([], True), (["unix"], False)])
async def test_connections_of_a_trusted_peer_are_not_limited(trusted, is_limited, start, path):
    server = {"listen": ["127.0.0.1:0", f"unix:{path}"], "max_connections_per_address": 1}
    async with start(NOWHERE, server={**server, "trusted_proxies": trusted}) as gateway:
        async with connected(path) as one, connected(path) as two:
            assert await pong(one) == b"pong"
            if is_limited:
                assert await two.reader.read() == b""
                (line,) = gateway.lines.of("connection_closed")
                assert (line["client"], line["reason"]) == ("unix", "max_connections_per_address")
            else:
                assert await pong(two) == b"pong"


async def test_a_socket_that_a_killed_gateway_left_is_replaced(start, path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with start(NOWHERE, server={"listen": ["127.0.0.1:0", f"unix:{path}"]}), connected(path) as wire:
        assert await pong(wire) == b"pong"


def listening(path):
    taken = socket.socket(socket.AF_UNIX)
    taken.bind(str(path))
    taken.listen()
    return taken


def plain(path):
    path.write_text("")
    return path.open()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (listening, r"Address already in use\. Free this address"),
        (plain, r"There is a file that is no socket\. Move it away"),
    ],
)
async def test_what_is_somebodys_is_refused_and_stays(what, words, start, path):
    with what(path):
        with pytest.raises(
            CannotRunError, match=rf"^Cannot listen on unix:{path}: {words}, or write another"
        ):
            async with start(NOWHERE, server={"listen": ["127.0.0.1:0", f"unix:{path}.2", f"unix:{path}"]}):
                pass
        assert path.exists()
        assert not path.with_name("http.sock.2").exists()


async def test_a_folder_that_somebody_has_locked_keeps_no_gateway_from_starting_and_ending(
    start, path, monkeypatch
):
    monkeypatch.setattr(line_lock, "STANDS_STILL_AFTER", 0.01)
    folder = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    async with start(NOWHERE, server={"listen": f"unix:{path}"}), connected(path) as wire:
        assert await pong(wire) == b"pong"
    assert not path.exists()
    os.close(folder)


async def test_a_folder_that_is_not_there_is_named(start, path):
    with pytest.raises(
        CannotRunError, match=r"no/http\.sock: Its folder does not exist\. Create the folder, or"
    ):
        async with start(NOWHERE, server={"listen": f"unix:{path.parent}/no/http.sock"}):
            pass


async def test_the_socket_of_another_gateway_stays_at_the_end(start, path):
    async with start(NOWHERE, server={"listen": ["127.0.0.1:0", f"unix:{path}"]}):
        path.unlink()
        other = listening(path)
    assert path.exists()
    other.close()


# -- processes ------------------------------------------------------------------------------------

SHARED = {
    "auth": {"secret": "a secret of thirty-two bytes or more"},
    "limits": {"store": "redis://127.0.0.1:1/0"},
}


@pytest.mark.timeout(4 * bounds.TEST)
async def test_workers_accept_from_one_socket_and_a_successor_takes_it(path, tmp_path):
    """With TLS on the port beside it: workers, then one process, then nothing left."""
    authority = Authority(tmp_path)
    public, admin = free_port(), free_port()
    server = {
        "listen": [f"unix:{path}", f"127.0.0.1:{public}"],
        "tls": authority.pair().settings,
        "handover": True,
    }
    sections = {"server": server, "admin": {"listen": f"127.0.0.1:{admin}"}, **SHARED}
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump(configuration(NOWHERE, **sections)))
    arguments = ("serve", "--config", str(file))

    async def answers():
        async with connected(path) as wire:
            assert await pong(wire) == b"pong"
        async with await Wire.to("localhost", public, ssl=authority.client()) as wire:
            assert await pong(wire) == b"pong"

    async with gateway(*arguments, "--workers", "2") as old:
        old.keep_reading()
        line = await old.until("listening")
        assert line["public"] == f"unix:{path}, 127.0.0.1:{public}"
        await answers()
        status, out, _ = await run("health", "--config", str(file))
        assert (status, out) == (0, f"The gateway is ready: http://127.0.0.1:{admin}/readyz answers ok.")
        identity = os.lstat(path).st_ino
        async with gateway(*arguments) as new:
            new.keep_reading()
            await old.until("handover_given")
            assert await old.ended() == (0, "")
            await answers()
            assert os.lstat(path).st_ino == identity
            new.send_signal()
            assert await new.ended() == (0, "")
            assert not path.exists()


@pytest.mark.timeout(3 * bounds.TEST)
async def test_a_socket_of_the_service_manager_is_used_and_left(path, tmp_path):
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump(configuration(NOWHERE, server={"listen": "192.0.2.1:80"})))
    with Manager(tmp_path, "public") as manager, listening(path) as passed:
        os.dup2(passed.fileno(), dict(manager.sockets)["public"].fileno())
        async with manager.start("serve", "--config", str(file)) as served:
            assert (await served.until("listening"))["public"] == f"unix:{path}"
            async with connected(path) as wire:
                assert await pong(wire) == b"pong"
            served.send_signal(signal.SIGTERM)
            assert await served.ended() == (0, "")
        assert path.exists()
