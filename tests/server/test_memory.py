"""Freed memory goes back to the system, where the C library can be asked for it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FREES = """
from pathlib import Path
from gateway.server.memory import LARGE, return_large_blocks

def resident():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) // 1024

return_large_blocks()
for _ in range(3):
    bytearray(64 * LARGE)  # freeing it would let the thresholds of glibc grow
before, large, small = resident(), [], []
for _ in range(100):  # between large blocks small ones stay, so that no heap is free as a whole
    large.append(bytearray(4 * LARGE))
    large[-1][:] = bytes(4 * LARGE)
    small.append([bytearray(4096) for _ in range(4)])
full = resident()
large.clear()
print(before, full, resident())
"""


LASTS = """
import gc
gc.set_threshold(20_000, 2, 1000)  # as `__main__` does
import gateway.server.process
from gateway.serve_cli import run

async def serve():
    print(gc.get_stats()[2]["collections"] - full)
    began = sum(one["collections"] for one in gc.get_stats())
    kept = [[] for _ in range(10_000)]  # a crowd of requests
    looked = sum(one["collections"] for one in gc.get_stats()) - began
    print(before, len(gc.get_objects()) - len(kept), looked)
    print(gc.isenabled(), *gc.get_threshold())
    before_more = gc.get_stats()[0]["collections"]
    more = [[] for _ in range(15_000)]
    print(gc.get_stats()[0]["collections"] - before_more)

before = len(gc.get_objects())
full = gc.get_stats()[2]["collections"]
run(serve())
"""


WITHOUT_LIBFFI = """
import sys
sys.modules["ctypes"] = None
from gateway.server.memory import return_large_blocks
return_large_blocks()
"""


def output_of(text):
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_large_blocks_that_are_freed_leave_the_process():
    before, full, after = map(int, output_of(FREES).split())
    assert full - before > 90  # MiB
    assert after - before < 10


def test_a_python_without_ctypes_serves_all_the_same():
    assert output_of(WITHOUT_LIBFFI) == ""


def test_the_collector_passes_over_what_lasts_and_looks_at_the_rest_only_if_it_grows():
    *numbers, is_enabled, young, older, oldest, later = output_of(LASTS).split()
    at_start, before, after, at_once = map(int, numbers)
    assert (is_enabled, young, older, oldest) == ("True", "20000", "2", "10")
    assert at_start == 1
    assert before > 20_000
    assert after < 1000
    assert at_once == 0
    assert int(later) > 0


LOADED = """
import sys
from gateway.__main__ import main
sys.argv = ["flowise-gateway", "--version"]
try:
    main()
except SystemExit:
    pass
import gateway.server.process, gateway.server.worker
print(sorted({"aiohttp.web", "aiohttp.web_app", "frozenlist._frozenlist"} & sys.modules.keys()))
"""


def test_what_takes_memory_and_is_not_needed_is_not_loaded():
    """1 MB of aiohttp's framework for applications, and 0.9 of the library of C++."""
    assert output_of(LOADED).splitlines()[-1] == "[]"
