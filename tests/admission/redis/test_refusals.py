"""A store that refuses writes is away, although it answers reads: after a failover, full, or not allowed any more."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from contextlib import asynccontextmanager

import pytest
import redis

from gateway.admission.quotas import subject
from gateway.admission.redis.commands import OF_ONE_COMMAND, Command, ErrorReply
from gateway.admission.redis.connection import RedisConnection
from gateway.admission.store import StoreError
from gateway.errors import StoreUnavailable
from tests.harness.clock import until
from tests.harness.limit_process import process, requests, slots
from tests.harness.slow_proxy import SlowProxy
from tests.harness.surface import answer_with_store, answering, ask
from tests.harness.valkey import running_valkey

RULE = {"name": "all", "requests": 1000, "per": "1h", "by": "route"}
SECRET = {"auth": {"secret": "a secret of thirty-two bytes or more"}}


def admin(server, *commands):
    with server.client() as client:
        for command in commands:
            client.execute_command(*command.split())


def commands(cause, cure):
    return lambda server: admin(server, *cause), lambda server: admin(server, *cure)


def fail_to_save(server):
    shutil.rmtree(server._folder)
    with server.client() as client:
        client.config_set("save", "1 1")
        client.bgsave()
        while client.info("persistence")["rdb_last_bgsave_status"] != "err":
            pass


def run_for_ever(server):
    admin(server, "CONFIG SET lua-time-limit 1")
    endless = socket.create_connection(("127.0.0.1", server.port))
    endless.sendall(b'EVAL "while true do end" 0\r\n')
    server.endless = endless
    with server.client() as client:
        try:
            while True:
                client.ping()
        except redis.ResponseError as error:
            assert "BUSY" in str(error)  # noqa: PT017 - it is what is waited for


def stop_running(server):
    admin(server, "SCRIPT KILL")
    server.endless.close()


REFUSALS = {
    "READONLY": commands(["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"]),
    "MASTERDOWN": commands(
        ["CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"],
        ["CONFIG SET replica-serve-stale-data yes", "REPLICAOF NO ONE"],
    ),
    "OOM": commands(["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"]),
    "NOREPLICAS": commands(["CONFIG SET min-replicas-to-write 1"], ["CONFIG SET min-replicas-to-write 0"]),
    "MISCONF": (fail_to_save, lambda server: admin(server, "CONFIG SET stop-writes-on-bgsave-error no")),
    "NOPERM": commands(["ACL SETUSER default -set"], ["ACL SETUSER default +set"]),
    "NOPERM of a key": commands(["ACL SETUSER default resetkeys ~other:*"], ["ACL SETUSER default ~*"]),
    "NOPERM of scripts": commands(["ACL SETUSER default -evalsha -eval"], ["ACL SETUSER default +@all"]),
    "BUSY": (run_for_ever, stop_running),
}


@pytest.mark.parametrize("mode", ["closed", "local"])
@pytest.mark.parametrize("name", REFUSALS)
async def test_the_first_refused_write_takes_the_store_away_until_it_writes_again(
    name, mode, own_valkey, start, connect
):
    cause, cure = REFUSALS[name]
    limits = {"store": own_valkey.url, "when_store_fails": mode}
    without_store = 503 if mode == "closed" else 200
    async with (
        answering() as upstream,
        start(upstream.url, limits=limits, route={"limits": [RULE]}, **SECRET) as gateway,
    ):
        assert (await answer_with_store(connect, gateway)).status == 200
        await asyncio.to_thread(cause, own_valkey)
        refused = await ask(connect, gateway)
        (line,) = await gateway.lines.until("limit_store_down")
        again = await ask(connect, gateway)
        await asyncio.to_thread(cure, own_valkey)
        await gateway.lines.until("limit_store_up", 2)
        assert (await answer_with_store(connect, gateway)).status == 200
        failures = (await gateway.metrics())['flowise_gateway_limit_store_errors_total{kind="reply"}']
    assert (line["level"], line["reason"]) == ("error", name.partition(" ")[0])
    assert (refused.status, again.status) == (without_store, without_store)
    if mode == "closed":
        assert (refused.json()["code"], refused.fields["retry-after"]) == ("store_unavailable", "1")
    assert len(gateway.lines.of("limit_store_down")) == 1
    assert failures >= 1


async def test_reads_that_succeed_keep_no_refusing_store_up(own_valkey):
    async with process(own_valkey.url, is_closed=True) as gateway:
        admin(own_valkey, "REPLICAOF 127.0.0.1 1")
        client = gateway.limiter.client
        assert await asyncio.gather(*(client.call(Command(("ECHO", n))) for n in range(3)))
        with pytest.raises(StoreUnavailable):
            await gateway.admit(requests(5).charge(subject("me")))
        assert not client.is_up
        assert gateway.events.changed == [(True, ""), (False, "READONLY")]


async def test_a_late_refusal_takes_the_store_away_as_well(own_valkey):
    async with process(own_valkey.url) as gateway:
        admin(own_valkey, "REPLICAOF 127.0.0.1 1")
        client = gateway.limiter.client
        left = client.call(gateway.limiter._commands.admit([requests(5).charge(subject("me"))], "lease"))
        await asyncio.sleep(0)
        left.cancel()
        await gateway.events.until_away()
        assert gateway.events.changed[-1] == (False, "READONLY")


async def test_an_error_about_one_key_is_that_keys_alone(own_valkey):
    async with process(own_valkey.url) as gateway:
        mine, other = requests(5).charge(subject("me")), requests(5).charge(subject("you"))
        with own_valkey.client() as client:
            client.lpush(mine.key, "not a number")
        for _ in range(5):
            await gateway.admit(mine)
            await gateway.admit(other)
        assert gateway.limiter.client.is_up
        assert gateway.events.changed == [(True, "")]
        assert gateway.events.failed == []


async def test_a_store_that_refuses_writes_at_the_start_is_away_with_its_word(own_valkey):
    admin(own_valkey, "CONFIG SET maxmemory 1")
    async with process(own_valkey.url) as gateway:
        assert gateway.events.changed == [(False, "OOM")]


async def test_a_login_that_is_refused_has_its_word(tmp_path):
    with running_valkey(tmp_path, password="right") as server:
        for login, word in {"": "NOAUTH", ":wrong@": "WRONGPASS"}.items():
            async with process(f"redis://{login}127.0.0.1:{server.port}/0") as gateway:
                assert gateway.events.changed == [(False, word)]


async def test_nothing_is_dropped_while_the_store_refuses_writes(own_valkey):
    async with process(own_valkey.url, is_ticking=True) as gateway:
        run = await gateway.admit(slots(1).charge(subject("me")))
        admin(own_valkey, "REPLICAOF 127.0.0.1 1")
        run.release()
        await gateway.events.until_away()
        await until(lambda: len(gateway.limiter.outbox) == 1)  # between two attempts to send it
        admin(own_valkey, "REPLICAOF NO ONE")
        await gateway.events.until_up()
        assert len(gateway.limiter.outbox) == 0
        with own_valkey.client() as client:
            assert client.zcard(slots(1).charge(subject("me")).key) == 0
        assert "dropped" not in gateway.events.failed


@asynccontextmanager
async def two_servers(folder):
    """A server, its replica, and an address that leads to the first."""
    for name in ("a", "b"):
        (folder / name).mkdir()
    with running_valkey(folder / "a") as first, running_valkey(folder / "b") as second:
        admin(second, f"REPLICAOF 127.0.0.1 {first.port}")
        async with SlowProxy(first.port) as address:
            yield first, second, address


@pytest.mark.parametrize("mode", ["closed", "local"])
async def test_a_failover_is_followed_although_the_demoted_server_keeps_its_connections(
    mode, tmp_path, start, connect
):
    limits = {"store": None, "when_store_fails": mode}
    async with two_servers(tmp_path) as (first, second, address), answering() as upstream:
        limits["store"] = address.url
        async with start(upstream.url, limits=limits, route={"limits": [RULE]}, **SECRET) as gateway:
            assert (await answer_with_store(connect, gateway)).status == 200
            admin(second, "REPLICAOF NO ONE")
            admin(first, f"REPLICAOF 127.0.0.1 {second.port}")
            address.target = second.port
            await ask(connect, gateway)
            (line,) = await gateway.lines.until("limit_store_down")
            await gateway.lines.until("limit_store_up", 2)
            assert (await answer_with_store(connect, gateway)).status == 200
            with second.client() as client:
                assert client.keys("fgw:{route:chat}*")
    assert line["reason"] == "READONLY"


@asynccontextmanager
async def replying(line):
    """A server that answers the login of the redis package, and everything else with this line."""

    async def serve(reader, writer):
        while data := await reader.read(65536):
            for command in re.findall(rb"\*\d+\r\n\$\d+\r\n(\w+)\r\n", data):
                writer.write(b"+OK\r\n" if command in (b"CLIENT", b"SELECT", b"HELLO") else line)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("CLUSTERDOWN The cluster is down", "CLUSTERDOWN"),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS"),
        ("ERR Error running script (call to f_0): @user_script:1: @user_script: 1: -READONLY You can't write", "READONLY"),
        ("ERR Error running script (call to f_0): @user_script:1: @user_script: 1: -OOM command not allowed", "OOM"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "WRONGTYPE"),
        ("ERR Error running script (call to f_0): @user_script:9: WRONGTYPE Operation against a key", "WRONGTYPE"),
        ("ERR user_script:1: attempt to compare nil with number", "ERR"),
        ("MOVED 866 127.0.0.1:6381", "MOVED"),
        ("no word at all", "ERR"),
    ],
)  # fmt: skip
async def test_the_word_of_an_error_reply(line, word):
    async with replying(f"-{line}\r\n".encode()) as url:
        connection = RedisConnection(url)
        await connection.open()
        await connection.send([("EVALSHA",)])
        reply = await connection.read_reply()
        assert isinstance(reply, ErrorReply)
        assert (reply.word, reply.is_refusal) == (word, word not in OF_ONE_COMMAND)
        await connection.close()


@pytest.mark.parametrize(
    ("line", "reason"),
    [("LOADING Valkey is loading the dataset in memory", "LOADING"), ("NOAUTH Authentication required.", "NOAUTH"),
     ("ERR max number of clients reached", "connection")],
)  # fmt: skip
async def test_the_reason_of_an_error_that_ends_the_connection(line, reason):
    async with replying(f"-{line}\r\n".encode()) as url:
        connection = RedisConnection(url)
        await connection.open()
        await connection.send([("EVALSHA",)])
        with pytest.raises(StoreError) as failure:
            await connection.read_reply()
        assert failure.value.reason == reason
        await connection.close()
