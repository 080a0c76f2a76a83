"""systemd's protocol: messages about the state of the gateway, and listening sockets that were passed."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
import yaml

from gateway import aio
from tests.harness import bounds
from tests.harness.clock import time_passes
from tests.harness.gateway import configuration
from tests.harness.raw_client import Wire, request
from tests.harness.service_manager import Manager

pytestmark = pytest.mark.timeout(3 * bounds.TEST)

NOWHERE = "http://127.0.0.1:1"
SHARED = {
    "auth": {"secret": "a secret of thirty-two bytes or more"},
    "limits": {"store": "redis://127.0.0.1:1/0"},
}


@pytest.fixture
def written(tmp_path):
    """Writes a configuration; returns the arguments that serve it."""

    def write(**sections):
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(configuration(NOWHERE, **SHARED, **sections)))
        return "serve", "--config", str(path)

    return write


async def pong(port):
    async with await Wire.to("127.0.0.1", port) as wire:
        wire.send(request("GET", "/api/v1/ping"))
        return (await wire.reply()).body


@pytest.mark.parametrize(
    ("options", "is_abstract"),
    [((), False), (("--workers", "2"), True)],
    ids=["one process, file", "workers, abstract"],
)
async def test_it_serves_on_the_sockets_that_were_passed_and_says_when_it_is_ready_and_when_it_stops(
    options, is_abstract, written, tmp_path
):
    arguments = written(server={"listen": "192.0.2.1:80", "drain": "7s"}, admin={"listen": "127.0.0.1:1"})
    with Manager(tmp_path, "admin", "public", is_abstract=is_abstract) as manager:
        async with manager.start(*arguments, *options) as served:
            ready = await manager.until("READY", "1")
            await served.listens()
            assert (served.port, served.admin) == (
                manager.port("public"),
                f"http://127.0.0.1:{manager.port('admin')}",
            )
            assert (
                ready["STATUS"]
                == f"Serving on 127.0.0.1:{served.port}; the admin port is {served.admin[7:]}."
            )
            assert manager.messages == [ready]
            assert await pong(served.port) == b"pong"
            assert (await served.ask("/readyz"))[0] == 200
            for line in [line for line in served.lines if line["event"] == "worker_started"]:
                assert b"NOTIFY_SOCKET" not in Path(f"/proc/{line['pid']}/environ").read_bytes()
            served.send_signal()
            stopping = await manager.until("STOPPING", "1")
            assert stopping["STATUS"] == "Draining: open streams may finish within 7 s."
            assert await served.ended() == (0, "")
        with socket.socket() as late:
            late.connect(("127.0.0.1", manager.port("public")))  # waits in the queue for the next one


@pytest.mark.parametrize("address", ["/nothing/there", "vsock:2:1"])
async def test_a_manager_that_takes_no_message_is_logged_once(address, written, tmp_path):
    with Manager(tmp_path) as manager:
        async with manager.start(*written(), NOTIFY_SOCKET=address) as served:
            await served.listens()
            served.send_signal()
            assert await served.ended() == (0, "")
    (line,) = [line for line in served.lines if line["event"] == "notify_failed"]
    assert line["reason"] == "No such file or directory"


async def test_without_names_what_is_passed_is_the_public_port(written, tmp_path):
    with Manager(tmp_path, "public") as manager:
        async with manager.start(*written(), LISTEN_FDNAMES="") as served:
            await served.listens()
            assert served.port == manager.port("public")


async def test_what_is_meant_for_another_process_is_not_used(written, tmp_path):
    with Manager(tmp_path, "public") as manager:
        others = {"LISTEN_PID": "1", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
        async with manager.start(*written(), **others) as served:
            await served.listens()
            assert served.port != manager.port("public")
            await time_passes(2 * aio.INTERVAL)  # a sign of life would come at a tick
            served.send_signal()
            await manager.until("STOPPING")
        assert not [message for message in manager.messages if "WATCHDOG" in message]


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        (
            {"LISTEN_FDNAMES": "flowise-gateway.socket"},
            (
                'A passed socket has the name "flowise-gateway.socket". Write FileDescriptorName=public or'
                " FileDescriptorName=admin into the socket unit."
            ),
        ),
        (
            {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "public:admin"},
            (
                "Descriptor 4, which is passed for the admin port, is no listening TCP socket."
                " Write ListenStream=HOST:PORT into the socket unit."
            ),
        ),
    ],
)
async def test_what_cannot_be_used_is_refused(environment, sentence, written, tmp_path):
    with Manager(tmp_path, "public") as manager:
        async with manager.start(*written(), **environment) as served:
            assert await served.ended() == (1, f"flowise-gateway: {sentence}\n")


async def test_an_admin_port_for_other_machines_needs_a_token(written, tmp_path):
    with Manager(tmp_path, "admin") as manager, socket.socket() as everywhere:
        everywhere.bind(("0.0.0.0", 0))
        everywhere.listen()
        os.dup2(everywhere.fileno(), dict(manager.sockets)["admin"].fileno())
        async with manager.start(*written()) as served:
            status, errors = await served.ended()
    assert (status, "which other machines reach. Write a token into admin.token" in errors) == (1, True)


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "workers"])
async def test_it_shows_that_its_loop_runs_and_announces_a_reload_and_its_end(options, written, tmp_path):
    with Manager(tmp_path) as manager:
        async with manager.start(*written(), *options, WATCHDOG_USEC="600000", WATCHDOG_PID="own") as served:
            await manager.until("READY", "1")
            for _ in range(3):
                await manager.until("WATCHDOG", "1")
            written(logs={"level": "warning"})
            served.send_signal(signal.SIGHUP)
            assert int((await manager.until("RELOADING", "1"))["MONOTONIC_USEC"]) > 0
            await manager.until("STATUS", "The configuration was reloaded.")
            written(route={"upstream": "nowhere"})
            served.send_signal(signal.SIGHUP)
            refused = "The changed configuration was refused: its mistakes are in the log."
            assert (await manager.until("STATUS", refused))["READY"] == "1"
            assert [one for one in manager.messages if "RELOADING" in one or "READY" in one][1::2] == [
                one for one in manager.messages if "RELOADING" in one
            ]
