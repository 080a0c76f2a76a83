"""CPU time and memory of a process with all its descendants, from /proc (Linux only)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

_CPU_CLOCK_OF_PROCESS = 2
_PROC = Path("/proc")


@dataclass(frozen=True)
class Memory:
    """Resident and proportional set size in bytes."""

    rss: int
    pss: int

    def per(self, before: Memory, count: int) -> tuple[float, float]:
        """Growth of (rss, pss) since `before` in KB (1,000 bytes) for each of `count` things."""
        return (self.rss - before.rss) / count / 1000, (self.pss - before.pss) / count / 1000


def process_tree(root: int) -> list[int]:
    """The ids of a process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            children.setdefault(_parent(entry), []).append(int(entry.name))
    tree = [root]
    for pid in tree:
        tree.extend(children.get(pid, []))
    return tree


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def cpu_ns(pids: list[int]) -> int:
    """Sum the CPU time of processes with all their threads, user and system, in nanoseconds.

    Read from the CPU clock of each process (`clock_getcpuclockid(3)`), because `/proc/PID/stat` rounds to 10 ms.
    """
    return sum(time.clock_gettime_ns((~pid << 3) | _CPU_CLOCK_OF_PROCESS) for pid in pids)


def memory(pids: list[int]) -> Memory:
    """Sum the memory of processes from `/proc/PID/smaps_rollup`."""
    totals = {"Rss:": 0, "Pss:": 0}
    for pid in pids:
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]:
            name, size = line.split()[:2]
            if name in totals:
                totals[name] += int(size) * 1024
    return Memory(totals["Rss:"], totals["Pss:"])
