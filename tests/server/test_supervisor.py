"""Several workers on one port: each serves, a scrape is their sum, a dead one is replaced, all end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import yaml

from tests.harness import bounds
from tests.harness.api_keys import key_of
from tests.harness.frames import END, METADATA
from tests.harness.gateway import FLOW, configuration
from tests.harness.held_stream import TOKEN, Held
from tests.harness.ports import free_port
from tests.harness.processes import ROOT, Served, gateway, run, spawn
from tests.harness.programs import program
from tests.harness.raw_client import Wire, request
from tests.harness.raw_upstream import RawUpstream
from tests.harness.stopped import stopped

pytestmark = pytest.mark.timeout(3 * bounds.TEST)  # three or four interpreters start in each test

PATH = f"/api/v1/prediction/{FLOW}"
SECRET = "a secret of thirty-two bytes or more"
SHARED = {"auth": {"secret": SECRET}, "limits": {"store": "redis://127.0.0.1:1/0"}}
NOWHERE = "http://127.0.0.1:1"
STREAMS, PINGS = 'flowise_gateway_streams_active{route="chat"}', '{endpoint="ping",'


@pytest.fixture
def workers(serve):
    """`async with workers(upstream.url) as gateway:` two of them; sections as for `serve`."""

    def begin(upstream=NOWHERE, *, server=None, before="", **sections):
        sections = {"server": {"workers": 2, **(server or {})}, **SHARED, **sections}
        return serve(upstream, before=before, **sections)

    return begin


@pytest.fixture
def written(tmp_path):
    """Writes a configuration for two workers; returns its path."""

    def write(**sections):
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(configuration(NOWHERE, **SHARED, **sections)))
        return str(path)

    return write


@asynccontextmanager
async def connected(gateway):
    """A connection to each worker, by its number; opens connections until both have answered one."""
    async with AsyncExitStack() as stack:
        wires = {}
        while len(wires) < 2:
            count = len(lines_of(gateway, "request"))
            wire = await stack.enter_async_context(await Wire.to(gateway.host, gateway.port))
            wire.send(request("GET", "/api/v1/ping"))
            assert (await wire.reply()).body == b"pong"
            line = await gateway.until("request", count + 1)
            wires.setdefault(line["worker"], wire)
        yield wires


def lines_of(gateway, name, **fields):
    return [line for line in gateway.lines if line["event"] == name and fields.items() <= line.items()]


def pid_of(gateway, worker):
    """The current process id of a worker."""
    return lines_of(gateway, "worker_started", worker=worker)[-1]["pid"]


async def samples(gateway):
    text = (await gateway.ask("/metrics"))[1]
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


async def pings(gateway):
    found = await samples(gateway)
    return sum(value for name, value in found.items() if "requests_total" + PINGS in name)


async def begin_stream(wire):
    wire.post(PATH, {"question": "hi", "streaming": True})
    assert (await wire.head())[0] == 200
    assert await wire.chunk() == TOKEN


async def test_each_worker_serves_and_one_scrape_is_their_sum_and_their_streams_finish(workers):
    held = Held()
    async with (
        RawUpstream(held) as upstream,
        workers(upstream.url, server={"drain": "60s"}) as gateway,
        connected(gateway) as wires,
    ):
        started = lines_of(gateway, "worker_started")
        assert [line["worker"] for line in started] == [1, 2]
        pids = {line["pid"] for line in started}
        assert len(pids) == 2
        assert gateway.pid not in pids
        assert {os.getsid(pid) for pid in pids} == pids  # so that Ctrl-C reaches only the supervisor
        assert set(wires) == {1, 2}
        assert await pings(gateway) == len(lines_of(gateway, "request"))
        for name in ("cmdline", "environ"):
            assert SECRET.encode() not in Path(f"/proc/{pids.pop()}/{name}").read_bytes()
        for wire in wires.values():
            await begin_stream(wire)
        gateway.send_signal(signal.SIGINT)
        await gateway.refuses_connections()
        assert (await gateway.ask("/readyz"))[:2] == (503, "draining\n")
        held.may_finish.set()
        for wire in wires.values():
            assert await wire.rest() == METADATA + END
        assert await gateway.ended() == (0, "")
    assert len(lines_of(gateway, "listening")) == 1
    assert "worker" not in lines_of(gateway, "listening")[0]
    assert gateway.lines[-1]["event"] == "stopped"


async def test_one_worker_is_one_process_without_a_parent(serve):
    async with serve(NOWHERE, server={"workers": 1}) as gateway:
        assert Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text() == ""
        gateway.send_signal()
        assert await gateway.ended() == (0, "")
    assert not [line for line in gateway.lines if "worker" in line or line["event"].startswith("worker")]
    assert not lines_of(gateway, "notify_failed")  # it has no service manager


async def test_a_worker_that_is_killed_or_ended_is_replaced_with_the_same_configuration(workers, tmp_path):
    """The killed one keeps its counts and loses its gauges; the one that an operator ends finishes its streams."""
    held = Held()
    async with RawUpstream(held) as upstream, workers(upstream.url) as gateway, connected(gateway) as wires:
        await begin_stream(wires[1])
        await begin_stream(wires[2])
        counted = await pings(gateway)
        while (await samples(gateway))[STREAMS] != 2:  # an event may be read before its stream is counted
            pass
        (tmp_path / "gateway.yaml").write_text("routes: []")  # not read again
        os.kill(pid_of(gateway, 1), signal.SIGKILL)
        ended = await gateway.until("worker_ended")
        assert (ended["worker"], ended["how"], ended["level"]) == (1, "SIGKILL", "warning")
        assert await pings(gateway) == counted
        assert (await samples(gateway))[STREAMS] == 1
        assert (await gateway.until("worker_ready", 3))["worker"] == 1
        assert (await gateway.ask("/readyz"))[0] == 200
        assert len({line["pid"] for line in lines_of(gateway, "worker_started")}) == 3
        async with connected(gateway) as others:
            assert set(others) == {1, 2}
            await begin_stream(others[1])
            assert await pings(gateway) == len(lines_of(gateway, "request"))
            pid = pid_of(gateway, 2)
            os.kill(pid, signal.SIGTERM)
            assert (await gateway.until("draining"))["worker"] == 2
            os.kill(pid, signal.SIGTERM)  # a second SIGTERM to a worker changes nothing
            held.may_finish.set()
            for wire in (wires[2], others[1]):
                assert await wire.rest() == METADATA + END
            ended = await gateway.until("worker_ended", 2)
            assert (ended["worker"], ended["how"]) == (2, "status 0")
            ready = await gateway.until("worker_ready", 4)
            assert (ready["worker"], ready["pid"] != pid) == (2, True)
    assert len(lines_of(gateway, "listening")) == 1


async def test_a_crash_loop_ends_the_gateway_with_1_and_a_message(written):
    async with gateway("serve", "--config", written(), "--workers", "2") as child:
        for count in range(3):
            while len(started := lines_of(child, "worker_started", worker=1)) <= count:
                await child.until("worker_started", len(lines_of(child, "worker_started")) + 1)
            os.kill(started[-1]["pid"], signal.SIGKILL)
        status, err = await child.ended()
    assert status == 1
    assert err == "flowise-gateway: Worker 1 keeps dying, last with SIGKILL. See its lines in the log.\n"
    assert len(lines_of(child, "crash_loop")) == 1
    assert lines_of(child, "worker_ended", worker=2, how="status 0", level="info")


async def test_it_is_ready_when_the_loops_of_all_workers_run(written):
    address = f"127.0.0.1:{free_port()}"
    path = written(admin={"listen": address})
    async with gateway("serve", "--config", path, "--workers", "2") as child:
        child.admin = f"http://{address}"
        await child.until("worker_started", 2)
        with stopped(pid_of(child, 2)):
            assert (await child.until("worker_ready"))["worker"] == 1
            assert (await child.ask("/readyz"))[:2] == (503, "starting\n")
            assert (await child.ask("/livez"))[0] == 200
        await child.listens()
        assert (await child.ask("/readyz"))[:2] == (200, "ok\n")
        with stopped(pid_of(child, 2)):
            line = await child.until("worker_stalled")
            assert (line["worker"], line["level"]) == (2, "warning")
            assert (await child.ask("/readyz"))[:2] == (503, "stalled\n")
            assert (await child.ask("/livez"))[0] == 200
        assert (await child.until("worker_recovered"))["worker"] == 2
        assert (await child.ask("/readyz"))[:2] == (200, "ok\n")
        assert len(lines_of(child, "worker_started")) == 2


async def test_the_port_stays_open_for_the_delay_and_a_second_signal_ends_all_waits(workers):
    async with (
        RawUpstream(Held()) as upstream,
        workers(upstream.url, server={"drain_delay": "60s", "drain": "10m"}) as gateway,
        connected(gateway) as wires,
    ):
        for wire in wires.values():
            await begin_stream(wire)
        gateway.send_signal()
        await gateway.until("draining", 3)
        assert (await gateway.ask("/readyz"))[:2] == (503, "draining\n")
        async with connected(gateway) as others:
            assert set(others) == {1, 2}
        gateway.send_signal()
        for wire in wires.values():
            body = await wire.rest()
            assert body.startswith(b'message:\ndata:{"event":"error","data":"')
            assert body.endswith(END)
        assert await gateway.ended() == (0, "")


async def test_workers_end_when_their_parent_is_killed_and_their_streams_finish(workers):
    held = Held()
    async with (
        RawUpstream(held) as upstream,
        workers(upstream.url, server={"drain_delay": "60s", "drain": "60s"}) as gateway,
        connected(gateway) as wires,
    ):
        for wire in wires.values():
            await begin_stream(wire)
        gateway.send_signal(signal.SIGKILL)
        await gateway.refuses_connections()
        held.may_finish.set()
        for wire in wires.values():
            assert await wire.rest() == METADATA + END
        assert (await gateway.ended())[0] == -signal.SIGKILL  # and no worker holds its standard output
    assert len(lines_of(gateway, "parent_lost")) == 2


async def test_workers_import_from_the_path_of_their_parent_not_the_working_directory(workers, tmp_path):
    for name in ("gateway", "uvloop"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(5)")
    before = f'cd {tmp_path}; export PYTHONPATH={ROOT}; python=$1; shift; set -- "$python" -P "$@"'
    async with workers(before=before) as child:
        child.send_signal()
        assert await child.ended() == (0, "")


async def test_a_worker_that_does_not_end_is_killed_after_a_margin(written):
    hasty = "import sys; from gateway.cli import main; from gateway.server import supervisor; "
    hasty += "supervisor.MARGIN = 1.0; sys.exit(main(sys.argv[1:]))"
    command = ["serve", "--config", written(server={"drain": "0s"}), "--workers", "2"]
    child = Served(await spawn(sys.executable, "-c", hasty, *command))
    try:
        await child.listens()
        with stopped(pid_of(child, 1)):
            child.send_signal()
            assert await child.ended() == (0, "")
    finally:
        await child.end()
    assert len(lines_of(child, "worker_killed", worker=1)) == 1
    assert lines_of(child, "worker_ended", worker=1, how="SIGKILL", level="warning")


async def test_the_parent_loads_nothing_that_serves_requests():
    loaded = "import sys, gateway.serve_cli, gateway.server.supervisor; print(*sys.modules)"
    out, _ = await (await spawn(sys.executable, "-c", loaded)).communicate()
    modules = set(out.decode().split())
    assert "gateway.server.admin" in modules
    assert not modules & {
        "gateway.app",
        "gateway.server.process",
        "gateway.simulator",
        "gateway.upstream.upstream",
    }


async def test_a_port_that_another_program_shares_ends_with_1(written):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:{}".format(taken.getsockname()[1])
        status, out, err = await run("serve", "--config", written(), "--listen", address, "--workers", "2")
    assert (status, err) == (
        1,
        f"flowise-gateway: Cannot listen on {address}: Address already in use. Free this address, or write another one in server.listen (--listen, GATEWAY_LISTEN).\n",
    )
    assert "worker_started" not in out


async def test_without_memory_for_metrics_the_workers_serve_and_say_so(workers):
    """The system refuses every file of any size; a replaced worker serves too."""
    async with workers(before="ulimit -f 0") as gateway, connected(gateway):
        os.kill(pid_of(gateway, 1), signal.SIGKILL)
        assert (await gateway.until("worker_ready", 3))["worker"] == 1
        async with connected(gateway):
            assert await pings(gateway) == 0
    lost = lines_of(gateway, "metrics_lost", level="error", reason="File too large")
    assert sorted(line["worker"] for line in lost) == [1, 1, 2]


@pytest.fixture
def full_folder(tmp_path, monkeypatch):
    """A file system without a free byte, as the folder for temporary files."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = [program("mount"), "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        with suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        monkeypatch.setenv("TMPDIR", str(folder))
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_folder_for_temporary_files_costs_nothing(workers, full_folder):
    """As it fills up while workers serve, or when one is replaced; and as a cleaner deletes everything in it."""
    async with workers() as gateway, connected(gateway) as wires:
        for wire in wires.values():
            for number in range(200):  # many series
                wire.send(request("GET", f"/api/v1/ping/{number}"))
                await wire.reply()
        os.kill(pid_of(gateway, 1), signal.SIGKILL)
        assert (await gateway.until("worker_ready", 3))["worker"] == 1
        for path in full_folder.iterdir():
            path.unlink()
        async with connected(gateway):
            assert await pings(gateway) == len(lines_of(gateway, "request", endpoint="ping"))
        assert [path.name for path in full_folder.iterdir()] == []
    assert not lines_of(gateway, "metrics_lost")
    assert len(lines_of(gateway, "worker_ended")) == 1


async def test_a_worker_that_is_replaced_while_the_keys_file_is_broken_has_the_last_valid_keys(
    workers, tmp_path
):
    key = await key_of(tmp_path, "backend")
    auth = {"auth": {"secret": SECRET}, "route": {"auth": ["api_key"]}}
    async with RawUpstream(Held()) as upstream, workers(upstream.url, **auth) as gateway:
        (tmp_path / "keys.yaml").write_text("keys: [")
        await gateway.until("keys_file_broken", 3)  # the parent and both workers
        os.kill(pid_of(gateway, 1), signal.SIGKILL)
        assert (await gateway.until("worker_ready", 3))["worker"] == 1
        await gateway.until("keys_file_broken", 4)
        async with connected(gateway) as wires:
            for wire in wires.values():
                wire.send(request("GET", "/gateway/v1/limits", Authorization=f"Bearer {key}"))
                assert (await wire.reply()).status == 200
    assert not lines_of(gateway, "crash_loop")


async def test_a_broken_keys_file_is_reported_before_any_worker_starts(tmp_path):
    (tmp_path / "keys.yaml").write_text("keys: 5\n")
    path = tmp_path / "gateway.yaml"
    path.write_text(
        yaml.safe_dump(configuration(NOWHERE, server={"workers": 2, "listen": "127.0.0.1:0"}, **SHARED))
    )
    status, out, err = await run("serve", "--config", str(path))
    assert (status, "Traceback" in err) == (2, False)
    assert err.startswith(f"{tmp_path}/keys.yaml:1: keys: ")
    assert "worker_started" not in out
