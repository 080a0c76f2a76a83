"""Commands whose standard input, output or error is closed, full, or a pipe that nothing reads."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
import yaml

from tests.harness import bounds
from tests.harness.clock import time_passes
from tests.harness.frames import END
from tests.harness.gateway import configuration
from tests.harness.ports import free_port
from tests.harness.processes import PAUSE, ROOT, gateway
from tests.harness.raw_client import Wire, request

CLOSED = ["exec <&-", "exec >&-", "exec 2>&-", "exec <&- >&- 2>&-"]
EXAMPLE = str(ROOT / "config" / "gateway.yaml")
SHARED = {
    "auth": {"secret": "a secret of thirty-two bytes or more"},
    "limits": {"store": "redis://127.0.0.1:1/0"},
}
LOST = "flowise-gateway: Standard output is closed: what is written to it is lost.\n"
BUFFERED = "unset PYTHONUNBUFFERED"  # as in a shell
FULL = f"{BUFFERED}; exec >/dev/full"
NO_SPACE = "Cannot write to standard output: No space left on device."


async def connected(port):
    """A connection to a gateway whose log cannot be read, once it listens."""
    while True:
        try:
            return await Wire.to("127.0.0.1", port)
        except ConnectionError:
            await time_passes(PAUSE)


async def answers(port):
    async with await connected(port) as wire:
        wire.send(request("GET", "/api/v1/ping"))
        return (await wire.reply()).body == b"pong"


@pytest.fixture
def written(tmp_path):
    """Writes a configuration; returns its path and port."""

    def write(**sections):
        port, path = free_port(), tmp_path / "gateway.yaml"
        sections.setdefault("server", {})["listen"] = f"127.0.0.1:{port}"
        path.write_text(yaml.safe_dump(configuration("http://127.0.0.1:1", **sections)))
        return str(path), port

    return write


@pytest.mark.parametrize("closed", CLOSED)
async def test_a_short_command_does_not_need_them(closed, written):
    path, _ = written()
    async with gateway("check", "--config", path, before=closed) as child:
        status, err = await child.ended()
    assert status == 0
    assert err == (LOST if closed == "exec >&-" else "")
    assert child.output == ([] if ">&-" in closed.replace("2>&-", "") else [f"{path}: ok, 1 route"])


@pytest.mark.parametrize("closed", [CLOSED[1], CLOSED[-1]])
async def test_the_gateway_serves_without_them(closed, written):
    path, port = written()
    async with gateway("serve", "--config", path, before=closed) as child:
        assert await answers(port)
        child.send_signal(signal.SIGTERM)
        assert await child.ended() == (0, LOST if closed == "exec >&-" else "")


@pytest.mark.timeout(3 * bounds.TEST)
async def test_workers_serve_without_them(written):
    path, port = written(server={"workers": 2}, **SHARED)
    async with gateway("serve", "--config", path, before=CLOSED[-1]) as child:
        assert await answers(port)
        child.send_signal(signal.SIGTERM)
        assert await child.ended() == (0, "")


async def test_the_demo_streams_without_them():
    port = free_port()
    async with gateway("demo", "--listen", f"127.0.0.1:{port}", before=CLOSED[-1]) as child:
        async with await connected(port) as wire:
            wire.post("/api/v1/prediction/demo", {"question": "hi", "streaming": True})
            assert (await wire.reply()).body.endswith(END)
        child.send_signal(signal.SIGINT)
        assert await child.ended() == (0, "")


@pytest.mark.parametrize("command", [("create", "--name", "app"), ("rotate", "00000000")], ids=lambda c: c[0])
async def test_a_key_that_could_not_be_shown_is_not_made(command, written, tmp_path):
    path, _ = written()
    async with gateway("keys", *command, "--config", path, before="exec >&-") as child:
        status, err = await child.ended()
    assert status == 2
    assert err.splitlines()[-1].endswith(
        "A key is shown only once, on standard output: open it and try again."
    )
    assert not (tmp_path / "keys.yaml").exists()


@pytest.mark.parametrize(
    "command",
    [("schema",), ("check", "--config", EXAMPLE), ("demo", "--listen", "127.0.0.1:0")],
    ids=lambda c: c[0],
)
async def test_output_that_is_not_taken_is_an_error_in_one_sentence(command):
    async with gateway(*command, before=FULL) as child:
        status, err = await child.ended()
    assert status == 1
    warnings = [line for line in err.splitlines() if " warning: " in line]  # of the example
    (said,) = [line for line in err.splitlines() if line not in warnings]
    assert said.startswith(f"flowise-gateway: {NO_SPACE}")


async def test_help_that_is_not_taken_is_no_crash():
    async with gateway("--help", before=FULL) as child:
        assert await child.ended() == (0, "")


async def test_a_mistake_keeps_its_status_when_standard_error_takes_nothing(tmp_path):
    missing = str(tmp_path / "none.yaml")
    async with gateway("check", "--config", missing, before=f"{BUFFERED}; exec 2>/dev/full") as child:
        assert (await child.ended())[0] == 2


async def test_a_log_that_is_not_taken_ends_neither_the_gateway_nor_its_status(written):
    path, port = written()
    async with gateway("serve", "--config", path, before=FULL) as child:
        assert await answers(port)
        child.send_signal(signal.SIGTERM)
        assert await child.ended() == (0, "")


async def test_a_reader_of_the_log_that_leaves_ends_neither_the_gateway_nor_its_status(written):
    path, port = written()
    async with gateway("serve", "--config", path, before=BUFFERED) as child:
        await child.until("listening")
        child._process._transport.get_pipe_transport(1).close()
        for _ in range(3):
            assert await answers(port)
        child.send_signal(signal.SIGTERM)
        assert await child._process.wait() == 0
        assert await child._process.stderr.read() == b""


async def test_an_interrupted_command_leaves_no_traceback(tmp_path):
    path = tmp_path / "gateway.yaml"
    os.mkfifo(path)
    async with gateway("check", "--config", str(path)) as child:
        with await asyncio.to_thread(path.open, "w"):  # returns when the command has opened it to read
            child.send_signal(signal.SIGINT)
        # its end wakes a command whose signal came just before it began to read: Python does not see that one
        assert await child.ended() == (130, "")
