"""`logs.file` of a gateway with workers: one file for all, through a rotation by signal, without a lost line."""

from __future__ import annotations

import asyncio
import json
import signal
from functools import partial

import pytest
import yaml

from tests.harness import bounds
from tests.harness.clock import until
from tests.harness.gateway import configuration
from tests.harness.ports import free_port
from tests.harness.processes import gateway, run
from tests.harness.raw_client import Wire, request

pytestmark = pytest.mark.timeout(3 * bounds.TEST)  # three interpreters start

SHARED = {
    "auth": {"secret": "a secret of thirty-two bytes or more"},
    "limits": {"store": "redis://127.0.0.1:1/0"},
}


def lines_of(*paths):
    return [json.loads(line) for path in paths if path.exists() for line in path.read_text().splitlines()]


def has(path, event):
    return any(line["event"] == event for line in lines_of(path))


async def pings(port, count):
    for _ in range(count):
        async with asyncio.timeout(bounds.STEP):
            wire = await Wire.to("127.0.0.1", port)
            wire.send(request("GET", "/api/v1/ping"))
            assert (await wire.reply()).body == b"pong"
            await wire.close()


async def test_all_workers_write_one_file_and_a_signal_moves_them_to_the_next(tmp_path):
    log, old = tmp_path / "gateway.log", tmp_path / "gateway.log.1"
    public = free_port()
    server = {"workers": 2, "listen": f"127.0.0.1:{public}"}
    sections = {**SHARED, "server": server, "logs": {"file": "gateway.log"}}
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(configuration("http://127.0.0.1:1", **sections)))
    async with gateway("serve", "--config", str(path)) as child:
        await until(partial(has, log, "listening"))
        await pings(public, 20)
        log.rename(old)
        child.send_signal(signal.SIGHUP)
        await until(log.exists)
        await pings(public, 20)
        await until(partial(has, log, "config_reloaded"))
        child.send_signal()
        assert await child.ended() == (0, "")
        assert child.output == []
    lines = lines_of(old, log)
    assert len([line for line in lines if line["event"] == "request"]) == 40
    assert {line.get("worker") for line in lines} == {None, 1, 2}
    assert lines_of(log)[-1]["event"] == "stopped"


async def test_a_file_that_cannot_be_opened_ends_the_start_with_a_sentence(tmp_path):
    (tmp_path / "gateway.log").symlink_to(tmp_path / "gone" / "file")
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(configuration("http://127.0.0.1:1", logs={"file": "gateway.log"})))
    reason = "cannot be opened (No such file or directory): create its folder."
    sentence = f"flowise-gateway: The log file {tmp_path / 'gateway.log'} {reason}\n"
    assert await run("serve", "--config", str(path)) == (1, "", sentence)
