"""What the system knows of a process: CPU, memory, descriptors, from `/proc` on Linux; nothing elsewhere.

prometheus_client's own collector is not used: it needs `/proc/stat`, which `ProcSubset=pid` of the systemd unit hides,
fails on an unlimited number of files, and has one process only.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

WINDOW = 30.0  # seconds; a maximum is that of the current and the last window


class ProcessValue(NamedTuple):
    """One number: `kind` is counter or gauge, `name` without the suffix `_total`."""

    kind: str
    name: str
    text: str
    value: float


def values_of(pid: int) -> Iterator[ProcessValue]:
    """The numbers of a process, with the names that Prometheus's clients give them; those that can be read."""
    yield from times_and_memory_of(pid)
    yield from _files(Path("/proc", str(pid)))


def times_and_memory_of(pid: int) -> Iterator[ProcessValue]:
    """Those that cost nothing to find; its files are counted one by one."""
    folder = Path("/proc", str(pid))
    try:
        content = (folder / "stat").read_bytes()
    except OSError:
        return
    fields = content.rpartition(b")")[
        2
    ].split()  # those from the state on, behind a name that may have blanks
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    cpu = (int(fields[11]) + int(fields[12])) / ticks
    started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + int(fields[19]) / ticks
    yield ProcessValue("counter", "process_cpu_seconds", "User and system CPU time.", cpu)
    yield ProcessValue("gauge", "process_start_time_seconds", "Start of the process.", round(started, 2))
    yield ProcessValue("gauge", "process_virtual_memory_bytes", "Virtual memory.", int(fields[20]))
    yield ProcessValue("gauge", "process_resident_memory_bytes", "Resident memory.", int(fields[21]) * page)


def _files(folder: Path) -> Iterator[ProcessValue]:
    """Open files and their limit, which only the same user may read."""
    try:
        count = sum(1 for _ in (folder / "fd").iterdir())
        limits = (folder / "limits").read_text()
    except OSError:
        return
    (limit,) = (line.split()[3] for line in limits.splitlines() if line.startswith("Max open files"))
    most = float("inf") if limit == "unlimited" else float(limit)
    yield ProcessValue("gauge", "process_open_fds", "Open file descriptors.", count)
    yield ProcessValue("gauge", "process_max_fds", "Limit of open file descriptors.", most)


class RecentMaximum:
    """The largest of the values of the last one to two windows."""

    def __init__(self) -> None:
        self._windows = deque([0.0], maxlen=2)
        self._ends_at = 0.0

    def add(self, value: float, now: float) -> float:
        """Add a value and return the maximum. `now`: monotonic seconds."""
        if now >= self._ends_at:
            self._ends_at = now + WINDOW
            self._windows.append(0.0)
        self._windows[-1] = max(self._windows[-1], value)
        return max(self._windows)


class ProcessUsage:
    """The share of a core that processes use, between two looks at them."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[float, float]] = {}  # by process id: when, and CPU seconds

    def look(self, pid: int) -> dict[str, float | None]:
        """`cpu`: a share of one core, None at the first look; `memory`: bytes."""
        found = {one.name: one.value for one in times_and_memory_of(pid)}
        now, used = time.monotonic(), found.get("process_cpu_seconds", 0.0)
        then, before = self._before.get(pid, (now, used))
        self._before[pid] = now, used
        share = round((used - before) / (now - then), 3) if now > then else None
        return {"cpu": share, "memory": found.get("process_resident_memory_bytes")}

    def forget_all_but(self, pids: Sequence[int]) -> None:
        self._before = {pid: self._before[pid] for pid in pids if pid in self._before}
