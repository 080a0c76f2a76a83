"""The metrics of processes, as a scrape has them: of one process, and of a parent and its workers."""

from __future__ import annotations

import os
import signal

import pytest

from tests.harness import bounds

NOWHERE = "http://127.0.0.1:1"
SHARED = {
    "auth": {"secret": "a secret of thirty-two bytes or more"},
    "limits": {"store": "redis://127.0.0.1:1/0"},
}
NAMES = (
    *("process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes"),
    *("process_open_fds", "process_max_fds", "process_start_time_seconds"),
)


async def samples(gateway):
    """The samples with a worker's number, by name and number, and all by their whole name."""
    text = (await gateway.ask("/metrics"))[1]
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


COLLECTIONS = 'python_gc_collections_total{generation="0"}'


def of(found, name, worker):
    return found[f'{name}{{worker="{worker}"}}']


async def test_one_process(serve):
    async with serve(NOWHERE) as gateway:
        found = await samples(gateway)
        assert of(found, "process_resident_memory_bytes", "") > 2**24
        assert of(found, "process_cpu_seconds_total", "") > 0.1
        assert of(found, "process_open_fds", "") < of(found, "process_max_fds", "")
        assert {name for name in found if name.startswith("process_")} == {
            f'{name}{{worker=""}}' for name in NAMES
        }
        while 'flowise_gateway_worker_loop_lag_seconds{worker=""}' not in found:
            found = await samples(gateway)
        while COLLECTIONS not in found:
            found = await samples(gateway)
        assert [name for name in found if name.startswith('python_info{implementation="')]


@pytest.mark.timeout(3 * bounds.TEST)
async def test_each_worker_and_the_parent(serve):
    async with serve(NOWHERE, server={"workers": 2}, **SHARED) as gateway:
        found = await samples(gateway)
        for name in NAMES:
            for worker in ("", "1", "2"):
                assert of(found, name, worker) > 0
        began = of(found, "process_start_time_seconds", "1")
        while (
            not {f'flowise_gateway_worker_loop_lag_seconds{{worker="{number}"}}' for number in (1, 2)}
            <= found.keys()
        ):
            found = await samples(gateway)
        (first,) = [
            line for line in gateway.lines if line["event"] == "worker_started" and line["worker"] == 1
        ]
        os.kill(first["pid"], signal.SIGKILL)
        await gateway.until("worker_ready", 3)
        assert of(await samples(gateway), "process_start_time_seconds", "1") > began
