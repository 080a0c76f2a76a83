"""Metrics of several workers: each keeps its values in files of its own, one scrape is their sum.

The library's multiprocess mode, and two things it leaves to us: a family that nothing was counted in yet is shown all
the same, in the order in which `metrics` names them; and the files of the dead become one pair, however many die.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Self

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from gateway.telemetry.metrics import Metrics

STANDARD_OUTPUT = 1
LOCK_FILE = "log.lock"


class SharedLines:
    """A text stream, as much as a logger needs of one; all processes name the same folder."""

    def __init__(self, folder: Path, descriptor: int = STANDARD_OUTPUT) -> None:
        self._descriptor = descriptor
        self._lock = (folder / LOCK_FILE).open(
            "ab"
        )  # opened anew by each process: else it would be one lock for all

    def __enter__(self) -> Self:
        """Open already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the lock's file; what is written afterwards is lost."""
        self._lock.close()

    def write(self, text: str) -> int:
        """Write it whole before anybody else writes; waits while nobody reads.

        Raises:
            OSError: the disk is full, nobody will ever read.
        """
        rest = memoryview(text.encode(errors="backslashreplace"))
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def isatty(self) -> bool:
        """Whether a person looks on."""
        return os.isatty(self._descriptor)


_LASTING = ("counter", "histogram")


def abandon(folder: Path, pid: int) -> None:
    """A worker whose parent is gone will count no more, and nobody will ask: the last one takes the folder along."""
    for path in folder.glob(f"*_{pid}.db"):
        path.unlink(missing_ok=True)
    if not any(folder.glob("gauge_live*.db")):  # each has one from its first moment
        shutil.rmtree(folder, ignore_errors=True)


class SharedMetrics(Collector):
    """The files of all workers in one folder, which must be empty at first and nobody else's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._families = Metrics().registry
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._lock = Lock()  # a scrape is another thread's

    @property
    def environment(self) -> Mapping[str, str]:
        """What a worker must find in its environment before it imports the library."""
        return MappingProxyType({"PROMETHEUS_MULTIPROC_DIR": str(self._folder)})

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The scrape's answer and its content type: OpenMetrics if the scraper asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Prometheus: every family, as all workers together have counted it."""
        counted = self._counted()
        for family in self._families.collect():
            yield counted.get(family.name, family)

    def forget(self, pid: int) -> None:
        """A worker is dead: what it counted stays, its gauges go."""
        with self._lock:
            mark_process_dead(pid, str(self._folder))
            for kind in _LASTING:
                self._merge_into(self._folder / f"{kind}_{pid}.db", self._folder / f"{kind}_dead.db")

    def _counted(self) -> Mapping[str, Metric]:
        with self._lock:
            # a file is empty for a moment when its worker begins
            files = [str(path) for path in self._folder.glob("*.db") if path.stat().st_size]
            return {metric.name: metric for metric in MultiProcessCollector.merge(files)}

    def _merge_into(self, left: Path, heir: Path) -> None:
        if not left.exists():
            return
        if left.stat().st_size:
            sums = MmapedDict(str(heir))
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(left)):
                sums.write_value(key, sums.read_value(key)[0] + value, 0.0)
            sums.close()
        left.unlink()
