"""Metrics and log lines of several workers: one scrape is the sum of all, and lines on one pipe do not mix.

Each worker keeps its values in memory that the supervisor reads, so nothing is lost when a worker is killed.
prometheus_client's own multiprocess mode is not used: it maps sparse files, so that a full disk ends every process by
SIGBUS, and a cleaner of old files sets every counter to zero.
"""

from __future__ import annotations

import fcntl
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from threading import Lock
from time import time
from types import MappingProxyType
from typing import NamedTuple

import msgspec
from prometheus_client import CollectorRegistry, Metric, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway.telemetry.line_lock import acquire
from gateway.telemetry.log_writer import STANDARD_OUTPUT, DescriptorLines
from gateway.telemetry.logs import Logger
from gateway.telemetry.metrics import PREFIX, Metrics, Processes
from gateway.telemetry.request_counts import Counts, counted
from gateway.telemetry.shared_numbers import (
    FIRST_SIZE,
    WORD,
    SharedNumbers,
    anonymous_file,
    read_numbers,
    reserve,
)

_ACCUMULATING = ("counter", "histogram")  # kept of dead workers; their gauges are dropped

Labels = tuple[tuple[str, str], ...]


class Series(NamedTuple):
    """The name of one value in shared memory, as JSON.

    Attributes:
        kind: `counter`, `histogram`, or how a gauge is merged, `livesum`, `livemax` or `livemin`.
        family: the metric's name, without the suffix of the sample.
        sample: the sample's name.
        labels: in the order of the metric's.
    """

    kind: str
    family: str
    sample: str
    labels: Labels


_MERGED: Mapping[str, Callable[[float, float], float]] = MappingProxyType(
    {'["livemax"': max, '["livemin"': min}
)  # by the beginning of a name; others are added
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Series).decode


def _named(kind: str, family: str, sample: str, labels: Labels = ()) -> str:
    return _encode(Series(kind, family, sample, labels)).decode()


class SharedMetrics(Collector):
    """The metrics of all workers."""

    def __init__(self) -> None:
        self._metrics = Metrics()
        self._families = self._metrics.registry
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._workers: set[int] = set()  # descriptors
        self._dead: dict[str, float] = defaultdict(float)
        self._lock = Lock()  # scrapes run in other threads

    def observe_processes(self, processes: Processes) -> None:
        """Also expose what the system knows of these processes."""
        self._metrics.observe_processes(processes)

    def add_worker(self) -> int:
        """A descriptor of memory for a new worker, for `share_values`.

        Raises:
            OSError: the system has none.
        """
        descriptor = anonymous_file("flowise-gateway-metrics")
        try:
            reserve(descriptor, FIRST_SIZE)
        except OSError:
            os.close(descriptor)
            raise
        with self._lock:
            self._workers.add(descriptor)
        return descriptor

    def forget(self, worker: int) -> None:
        """Keep a dead worker's counters and histograms, drop its gauges."""
        with self._lock:
            self._workers.discard(worker)
            for name, value in read_numbers(worker):
                if _decode(name).kind in _ACCUMULATING:
                    self._dead[name] += value
            os.close(worker)

    def count_reload(self, *, is_valid: bool) -> None:
        """As `Metrics.reloaded`, by the supervisor, which reads the configuration for all workers."""
        result = "ok" if is_valid else "error"
        name, time_name = f"{PREFIX}config_reloads", f"{PREFIX}config_reload_timestamp_seconds"
        with self._lock:
            self._dead[_named("counter", name, f"{name}_total", (("result", result),))] += 1
            if is_valid:
                self._dead[_named("livemax", time_name, time_name)] = time()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The response body of a scrape and its content type, in the format that `accept` prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Every family, merged over all workers, for prometheus_client; those without a value too."""
        return _filled(self._families.collect(), self._merged())

    def counts(self) -> Counts:
        """As `Metrics.counts`, of all workers; reads a few numbers of each, which takes milliseconds."""
        metrics = self._metrics
        families = [*metrics.requests.collect(), *metrics.time_to_first_token.collect()]
        beginnings = tuple(f'["{family.type}","{family.name}",' for family in families)
        filled = _filled(families, self._merged(beginnings))
        samples = (sample for family in filled for sample in family.samples)
        return counted((sample.name, sample.labels, sample.value) for sample in samples)

    def _merged(self, beginnings: tuple[str, ...] = ("",)) -> dict[str, float]:
        """Each number by its name, of those whose names begin like this."""
        with self._lock:
            merged = {name: value for name, value in self._dead.items() if name.startswith(beginnings)}
            for worker in self._workers:
                for name, value in read_numbers(worker):
                    # NaN: its process has withdrawn it
                    if math.isnan(value) or not name.startswith(beginnings):
                        continue
                    known = merged.get(name)
                    if known is None:
                        merged[name] = value
                    else:
                        merge = _MERGED.get(name.partition(",")[0])
                        merged[name] = known + value if merge is None else merge(known, value)
        return merged


def _filled(families: Iterable[Metric], merged_values: Mapping[str, float]) -> Iterator[Metric]:
    """The families with these values in place of their own."""
    merged: dict[str, dict[Series, float]] = defaultdict(dict)
    for name, value in merged_values.items():
        series = _decode(name)
        merged[series.family][series] = value
    for family in families:
        if found := merged.get(family.name):
            family.samples.clear()
            if family.type == "histogram":
                _add_histogram(family, found)
            else:
                for series, value in found.items():
                    family.add_sample(series.sample, dict(series.labels), value)
        yield family


def _add_histogram(family: Metric, found: Mapping[Series, float]) -> None:
    """Buckets are stored apart and exposed cumulatively."""
    buckets: dict[Labels, list[tuple[float, str, float]]] = defaultdict(list)
    sums: dict[Labels, float] = {}
    for series, value in found.items():
        if series.sample.endswith("_bucket"):
            *labels, (_, bound) = series.labels
            buckets[tuple(labels)].append((float(bound), bound, value))
        else:
            sums[series.labels] = value
    for labels_of_all, its_buckets in buckets.items():
        count = 0.0
        for _, bound, value in sorted(its_buckets):
            count += value
            family.add_sample(f"{family.name}_bucket", {**dict(labels_of_all), "le": bound}, count)
        family.add_sample(f"{family.name}_count", dict(labels_of_all), count)
        family.add_sample(f"{family.name}_sum", dict(labels_of_all), sums.get(labels_of_all, 0.0))


def share_values(descriptor: int, on_failure: Callable[[str], None]) -> None:
    """Let every metric that is made from now on in this process keep its values in memory of `add_worker`.

    `on_failure`: called once, with the reason, if there is no memory for a value, which is then not scraped.
    """
    memory = _Memory(SharedNumbers(descriptor), on_failure)
    values.ValueClass = partial(_Value, memory)  # the library has no other way to choose it after its import


class _Memory:
    """Where the values of this process are."""

    def __init__(self, numbers: SharedNumbers, on_failure: Callable[[str], None]) -> None:
        self._numbers = numbers
        self._on_failure = on_failure
        self._has_failed = False
        self.lock = Lock()

    def cell(self, series: Series) -> memoryview[float]:
        try:
            with self.lock:
                return self._numbers.cell(_encode(series).decode())
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                self._on_failure(str(error.strerror))
            return memoryview(bytearray(WORD)).cast("d")


class _Value:
    """A number, with the interface that prometheus_client expects of its values."""

    def __init__(  # noqa: PLR0913, PLR0917 - as the library calls it
        self,
        memory: _Memory,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Iterable[str],
        labelvalues: Iterable[str],
        help_text: str,  # noqa: ARG002 - as the library calls it
        multiprocess_mode: str = "",
        **_: object,
    ) -> None:
        labels = tuple(zip(labelnames, labelvalues, strict=True))
        self.cell = memory.cell(Series(multiprocess_mode or typ, metric_name, name, labels))
        self._lock = memory.lock

    def inc(self, amount: float) -> None:
        with self._lock:
            self.cell[0] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:  # noqa: ARG002 - not kept
        with self._lock:
            self.cell[0] = value

    def get(self) -> float:
        return self.cell[0]

    def set_exemplar(self, exemplar: object) -> None:
        """The gateway has no exemplars."""

    def get_exemplar(self) -> None:
        """The gateway has no exemplars."""


def log_lost_metrics(logger: Logger, reason: str) -> None:
    """Log that a scrape misses metrics of one worker."""
    message = "there is no memory for metrics of this worker: it serves on, and /metrics misses them"
    logger.error("metrics_lost", reason=reason, message=message)


def line_lock() -> int:
    """A descriptor for `SharedLines` of several processes.

    Raises:
        OSError: the system has no memory for it.
    """
    return anonymous_file("flowise-gateway-lines")


_WHOLE, _HALF = b"\0", b"\1"  # the first byte of the lock: how the last line ends


class SharedLines(DescriptorLines):
    """Lines of several processes, which have inherited one `lock` and hold it for each write: they do not mix.

    One that stands still while it holds the lock is not waited for as long, see `line_lock`.
    """

    def __init__(self, lock: int, descriptor: int = STANDARD_OUTPUT) -> None:
        super().__init__(descriptor)
        self._lock = lock

    def write(self, text: str) -> int:
        """Write all of it before another process writes; blocks while the pipe is full.

        Raises:
            OSError: the disk is full or the pipe is closed.
        """
        # for this process, although the open file is that of all
        is_locked = acquire(partial(fcntl.lockf, self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB), self.descriptor)
        before = os.pread(self._lock, 1, 0)  # whether any of them has left half a line
        self.half_line = int(before == _HALF)
        try:
            return super().write(text)
        finally:
            after = _HALF if self.half_line else _WHOLE
            if after != (before or _WHOLE):
                os.pwrite(self._lock, after, 0)
            if is_locked:
                fcntl.lockf(self._lock, fcntl.LOCK_UN)
