"""One gateway follows another on the same ports: no connection is refused or reset, no event lost or doubled."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import yaml

from gateway.config import Address
from gateway.server.handover import Given, Offer, Passed, take_over
from tests.harness import bounds, succession
from tests.harness.gateway import configuration
from tests.harness.ports import free_port
from tests.harness.processes import gateway, run
from tests.harness.raw_client import Wire, request
from tests.harness.raw_upstream import RawUpstream
from tests.harness.service_manager import Manager

pytestmark = pytest.mark.timeout(6 * bounds.TEST)  # up to six interpreters start in each test

SHARED = {
    "auth": {"secret": "a secret of thirty-two bytes or more"},
    "limits": {"store": "redis://127.0.0.1:1/0"},
}
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def written(tmp_path):
    """Writes a configuration with handover on free ports; returns a function that writes it again with changes."""
    public, admin = free_port(), free_port()

    def write(upstream=NOWHERE, *, admin_listen="", **server):
        settings = {
            "listen": f"127.0.0.1:{public}",
            "handover": True,
            "drain": "10m",
            "max_connections_per_address": 2000,
            **server,
        }
        sections = {"server": settings, "admin": {"listen": admin_listen or f"127.0.0.1:{admin}"}, **SHARED}
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(configuration(upstream, **sections)))
        return str(path)

    write.port, write.admin = public, admin
    return write


@asynccontextmanager
async def serving(path, *options):
    async with gateway("serve", "--config", path, *options) as child:
        yield child


def events(child):
    return [line["event"] for line in child.lines]


async def follow(old, begin_new, flowise, port, *, streams, storm_size=100, pause=0.02, on_new=None):
    """Let `begin_new` follow `old` during a storm and with open streams; returns the successor's status.

    `storm_size`: connections at each step. `pause`: as of `Storm`.
    """
    old.keep_reading()
    opened = [await succession.Stream.begin(port) for _ in range(streams)]
    async with succession.storm(port, pause=pause) as clients:
        await clients.more(storm_size)
        flowise.begins.set()
        async with begin_new() as new:
            new.keep_reading()
            await new.listens()
            if on_new is not None:
                await on_new(old, new)
            await old.until("draining")
            await clients.more(storm_size)
            flowise.has_ended.set()
            bodies = await asyncio.gather(*(stream.rest() for stream in opened))
            assert await old.ended() == (0, "")
            await clients.more(storm_size)
            assert clients.failures == []
            assert (await new.ask("/readyz"))[:2] == (200, "ok\n")
            assert set(bodies) == {succession.WHOLE}
            new.send_signal()
            status, errors = await new.ended()
            assert errors == ""
    requests = [line for line in old.lines if line["event"] == "request" and line["endpoint"] == "prediction"]
    assert [(line["outcome"], line["status"]) for line in requests] == [("ok", 200)] * streams
    return status


KINDS = [
    pytest.param((), ("--workers", "2"), id="one process, then workers"),
    pytest.param(("--workers", "2"), (), id="workers, then one process"),
    pytest.param((), (), id="one process"),
    pytest.param(("--workers", "3"), ("--workers", "2"), id="workers, then fewer"),
]


async def handed_over(written, before, after, **sizes):
    flowise = succession.Numbered()
    async with RawUpstream(flowise) as upstream:
        path = written(upstream.url)
        async with serving(path, *before) as old:
            await old.listens()
            begin = lambda: serving(path, *after)  # noqa: E731 - short
            assert await follow(old, begin, flowise, written.port, **sizes) == 0
            assert old.lines[-1]["event"] == "stopped"
            assert "handover_given" in events(old)


async def test_a_successor_takes_the_ports_without_a_gap(written):
    """Workers after workers; one process after another is below, and every combination in the next test."""
    await handed_over(written, ("--workers", "2"), ("--workers", "2"), streams=5)


@pytest.mark.chaos
@pytest.mark.timeout(60 * bounds.TEST)
@pytest.mark.parametrize(("before", "after"), KINDS)
async def test_ten_times_with_a_hundred_streams(before, after, written):
    for _ in range(10):
        await handed_over(written, before, after, streams=100, storm_size=2000, pause=0.0)


async def activated(written, tmp_path, options, **sizes):
    """With sockets of a service manager, which starts the successor and then stops the old one."""

    async def stop_old(old, _new):
        old.send_signal()

    flowise = succession.Numbered()
    async with RawUpstream(flowise) as upstream:
        path = written(upstream.url, handover=False)
        with Manager(tmp_path, "public", "admin") as manager:
            async with manager.start("serve", "--config", path, *options) as old:
                await old.listens()
                begin = lambda: manager.start("serve", "--config", path, *options)  # noqa: E731 - short
                port = manager.port("public")
                assert old.port == port
                assert await follow(old, begin, flowise, port, on_new=stop_old, **sizes) == 0


async def test_a_successor_with_the_sockets_of_a_service_manager(written, tmp_path):
    await activated(written, tmp_path, (), streams=5)


@pytest.mark.chaos
@pytest.mark.timeout(60 * bounds.TEST)
@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "workers"])
async def test_ten_times_with_the_sockets_of_a_service_manager(options, written, tmp_path):
    for at in range(10):
        (folder := tmp_path / str(at)).mkdir()
        await activated(written, folder, options, streams=100, storm_size=2000, pause=0.0)


def asking(written):
    """A connection to the name on which a gateway waits for its successor."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.connect(f"\0flowise-gateway 127.0.0.1:{written.port}")
    return channel


async def test_a_successor_that_ends_before_it_serves_changes_nothing(written):
    path = written()
    async with serving(path) as old:
        await old.listens()
        with asking(written) as channel:
            passed = []
            while not (packet := socket.recv_fds(channel, 1024, 8))[0].startswith(b'{"use": "end"'):
                passed += packet[1]
            assert len(passed) == 3  # two ports, and where the next one asks
        assert (await old.until("handover_failed"))["reason"] == "the successor ended before it served"
        for number in passed:
            os.close(number)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            place = "127.0.0.1:{}".format(taken.getsockname()[1])
            status, _, err = await run("serve", "--config", written(admin_listen=place))
        assert (status, err.partition(": Address")[0]) == (1, f"flowise-gateway: Cannot listen on {place}")
        await old.until("handover_failed", 2)
        assert (await old.ask("/readyz"))[:2] == (200, "ok\n")
        async with serving(written(admin_listen=f"127.0.0.1:{free_port()}")) as new:
            await new.listens()
            assert (await new.until("handover_taken"))["pid"] == old.pid
            assert (await old.until("handover_given"))["pid"] == new.pid
            assert new.admin != old.admin
            assert await old.ended() == (0, "")
            assert (await new.ask("/readyz"))[:2] == (200, "ok\n")
            async with serving(path) as third:
                await third.listens()
                assert (await third.until("handover_taken"))["pid"] == new.pid
                assert await new.ended() == (0, "")


async def test_another_user_gets_no_port(written):
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user; needs setpriv (Debian package util-linux)")
    ask = "import socket; one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
    ask += f" one.connect('\\0flowise-gateway 127.0.0.1:{written.port}'); print(socket.recv_fds(one, 1024, 8)[:2])"
    async with serving(written()) as old:
        await old.listens()
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--reuid=61234", "--clear-groups", "/usr/bin/env", "python3", "-c", ask),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        if process.returncode:
            pytest.skip("another user cannot run this Python")
        assert out == b"(b'', [])\n"
        assert (await old.until("handover_failed"))["reason"] == "another user asked for the ports"


async def test_what_another_user_offers_is_not_taken(written):
    """Its process could wait on the name before any gateway runs."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user; needs setpriv (Debian package util-linux)")
    wait = "import socket; one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
    wait += (
        f" one.bind('\\0flowise-gateway 127.0.0.1:{written.port}'); one.listen(); print('waits', flush=True);"
    )
    wait += " one.accept()[0].recv(1)"
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--reuid=61234", "--clear-groups", "/usr/bin/env", "python3", "-c", wait),
        stdout=asyncio.subprocess.PIPE,
    )
    if await process.stdout.readline() != b"waits\n":
        pytest.skip("another user cannot run this Python")
    status, _, err = await run("serve", "--config", written())
    assert (status, "belongs to user 61234. Run both gateways as the same user." in err) == (1, True)
    await process.wait()


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "workers"])
async def test_after_sigterm_both_ports_are_free_while_a_stream_is_open(options, written):
    flowise = succession.Numbered()
    async with RawUpstream(flowise) as upstream:
        path = written(upstream.url)
        async with serving(path, *options) as old:
            await old.listens()
            stream = await succession.Stream.begin(written.port)
            old.send_signal()
            await old.until("draining")
            await old.refuses_connections()
            async with serving(path, *options) as new:
                await new.listens()
                assert (await new.ask("/readyz"))[:2] == (200, "ok\n")
                flowise.begins.set()
                flowise.has_ended.set()
                assert await stream.rest() == succession.WHOLE
                assert await old.ended() == (0, "")
            assert "handover_taken" not in events(new)


async def test_a_connection_that_was_accepted_before_the_port_closed_is_answered(serve):
    """Its request comes later; at the end, aiohttp discards what it has not read by then."""
    async with serve(NOWHERE) as served:
        async with await Wire.to(served.host, served.port) as early:
            early.send(b"GET /api/v1/ping HTTP/1.1\r\n")
            async with await Wire.to(served.host, served.port) as other:
                other.send(request("GET", "/api/v1/ping"))
                await other.reply()  # so the first one is accepted, too
            served.send_signal()
            await served.refuses_connections()
            early.send(b"Host: gateway\r\n\r\n")
            reply = await early.reply()
        assert (reply.status, reply.body, reply.fields["connection"]) == (200, b"pong", "close")
        assert await served.ended() == (0, "")


async def test_however_many_sockets_one_process_has_all_are_passed():
    """After a handover from many workers to one; what is not passed would reset the connections that wait in it."""
    async with AsyncExitStack() as opened:
        sockets = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(70)]
        address = Address("127.0.0.1", sockets[0].getsockname()[1])
        admin = Address("127.0.0.1", 1)
        offer = Offer(Given(address, lambda: [sockets], admin, list), lambda: None, Unlogged())
        offer.open(Passed())
        opened.callback(offer.close)
        passed = await take_over([address], admin)
        opened.callback(passed.close)
        assert len([one for group in passed.public for one in group]) == 70


class Unlogged:
    """A logger for what is not looked at."""

    def info(self, *_, **__):
        """Nothing is kept."""

    warning = info
