"""What is known of a process from the system, and the maximum of the last values."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.telemetry.metrics import GC_EVERY, Metrics
from gateway.telemetry.processes import WINDOW, RecentMaximum, values_of
from tests.harness import bounds


def numbers(pid):
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system shows nothing of a process")
    return {value.name: value.value for value in values_of(pid)}


def test_the_numbers_of_this_process():
    before = time.time()
    spent = sum(os.times()[:2])
    found = numbers(os.getpid())
    assert spent - 0.02 <= found["process_cpu_seconds"] <= sum(os.times()[:2]) + 0.02
    assert found["process_start_time_seconds"] < before
    assert found["process_virtual_memory_bytes"] > found["process_resident_memory_bytes"] > 2**20
    assert found["process_max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with Path(os.devnull).open(), Path(os.devnull).open():
        assert numbers(os.getpid())["process_open_fds"] >= found["process_open_fds"] + 1


def test_the_start_is_that_of_the_process_and_a_name_with_brackets_is_read():
    before = time.time()
    program = "open('/proc/self/comm', 'w').write('a) R 1 (b'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        found = numbers(child.pid)
        child.stdin.close()
        child.wait(bounds.STEP)
    assert before - 1 < found["process_start_time_seconds"] < time.time() + 1


def test_a_process_that_has_ended_has_no_numbers():
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait(bounds.STEP)
    assert numbers(child.pid) == {}


def test_an_unlimited_number_of_files_is_a_number():
    numbers(os.getpid())
    program = (
        "import os, resource; from gateway.telemetry import processes;"
        "processes.Path.read_text = lambda _: 'Max open files  unlimited  unlimited  files\\n';"
        "print([one.value for one in processes.values_of(os.getpid()) if one.name == 'process_max_fds'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=bounds.STEP
    )
    assert ran.stdout == "[inf]\n"


def test_a_maximum_is_forgotten_after_one_to_two_windows():
    recent = RecentMaximum()
    assert recent.add(3.0, 1.0) == 3.0
    assert recent.add(1.0, WINDOW) == 3.0
    assert recent.add(1.0, 1.0 + WINDOW) == 3.0
    assert recent.add(2.0, 1.5 + WINDOW) == 3.0
    assert recent.add(1.0, 1.0 + 2 * WINDOW) == 2.0
    assert recent.add(0.5, 1.0 + 3 * WINDOW) == 1.0


def test_the_runs_of_the_garbage_collector_are_counted_once():
    import gc  # noqa: PLC0415 - for this test alone

    metrics = Metrics()
    metrics.tick(100.0)
    first = _sample(metrics, 'python_gc_collections_total{generation="2"}')
    gc.collect()
    metrics.tick(100.0 + GC_EVERY / 2)
    assert _sample(metrics, 'python_gc_collections_total{generation="2"}') == first
    metrics.tick(100.0 + GC_EVERY)
    assert (
        first + 1
        <= _sample(metrics, 'python_gc_collections_total{generation="2"}')
        <= gc.get_stats()[2]["collections"]
    )


def _sample(metrics, name):
    lines = metrics.exposition("")[0].decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))
