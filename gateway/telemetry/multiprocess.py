"""Metrics and log lines of several workers: one scrape is the sum of all, and lines on one pipe do not mix.

Adds two things to prometheus_client's multiprocess mode: families without a value are exposed, in the order of
`metrics`; and the files of dead workers are merged into one per kind, so that restarts do not pile up files.
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
_KEPT_KINDS = ("counter", "histogram")  # of dead workers; their gauges are dropped


class SharedMetrics(Collector):
    """The metrics of all workers, from files in one directory that is empty at first and used by nothing else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._families = Metrics().registry
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._lock = Lock()  # scrapes run in other threads

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that a worker needs before it imports prometheus_client."""
        return MappingProxyType({"PROMETHEUS_MULTIPROC_DIR": str(self._folder)})

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The response body of a scrape and its content type, in the format that `accept` prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Every family, summed over all workers, for prometheus_client."""
        counted = self._counted()
        for family in self._families.collect():
            yield counted.get(family.name, family)

    def forget(self, pid: int) -> None:
        """Keep a dead worker's counters and histograms, drop its gauges."""
        with self._lock:
            mark_process_dead(pid, str(self._folder))
            for kind in _KEPT_KINDS:
                self._merge_into(self._folder / f"{kind}_{pid}.db", self._folder / f"{kind}_dead.db")

    def _counted(self) -> Mapping[str, Metric]:
        with self._lock:
            # A starting worker's files are empty for a moment.
            files = [str(path) for path in self._folder.glob("*.db") if path.stat().st_size]
            return {metric.name: metric for metric in MultiProcessCollector.merge(files)}

    def _merge_into(self, source: Path, target: Path) -> None:
        if not source.exists():
            return
        if source.stat().st_size:
            sums = MmapedDict(str(target))
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(source)):
                sums.write_value(key, sums.read_value(key)[0] + value, 0.0)
            sums.close()
        source.unlink()


def abandon(folder: Path, pid: int) -> None:
    """Delete an orphaned worker's files; the last worker deletes the directory."""
    for path in folder.glob(f"*_{pid}.db"):
        path.unlink(missing_ok=True)
    if not any(folder.glob("gauge_live*.db")):  # every living worker has one
        shutil.rmtree(folder, ignore_errors=True)


class SharedLines:
    """A text stream for loggers of several processes, which share `folder` and hold a file lock for each line."""

    def __init__(self, folder: Path, descriptor: int = STANDARD_OUTPUT) -> None:
        self._descriptor = descriptor
        # Opened by each process: a lock belongs to the open file, so an inherited one would exclude none.
        self._lock = (folder / LOCK_FILE).open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def write(self, text: str) -> int:
        """Write all of it before another process writes; blocks while the pipe is full.

        Raises:
            OSError: the disk is full or the pipe is closed.
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
        """Do nothing: lines are not buffered."""

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)
