"""A client stops reading a 500 MB stream: how much the proxy buffers and reads, and when it gives up."""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tests.bench import procfs
from tests.bench.load import FLOW, prediction
from tests.bench.processes import BenchError, running_upstream
from tests.bench.report import Verdict
from tests.bench.targets import GATEWAY, Site, Target, started

SEND_S = 3  # for which the client may take nothing
_STREAM_BYTES = 500_000_000
_READ_FIRST = 1_000_000
_SAMPLE_S = 0.1
_TIMEOUT_S = SEND_S + 15
_GROWTH_MB = 16
_ABORT_WITHIN_S = SEND_S + 3
_MB = 1_000_000
_LAST_CHUNK = b"0\r\n\r\n"
_MIN_STILL_S = SEND_S / 2


@dataclass(frozen=True)
class Sample:
    """One sample: seconds since the client stopped reading, memory of the proxy, counters of the upstream."""

    at_s: float
    rss: int
    accepted: int
    aborts: int
    active: int


@dataclass
class SlowReader:
    """The samples of one run.

    Attributes:
        idle_rss: bytes, before the stream and after a warm-up.
        samples: ten per second, from when the client stopped reading until the upstream's stream had ended.
        received: bytes that the client could still read at the end.
        ending: how the client's connection ended.
    """

    idle_rss: int
    samples: list[Sample] = field(default_factory=list)
    received: int = 0
    ending: str = ""

    @property
    def growth_mb(self) -> float:
        """Largest growth of the proxy's resident memory in MB."""
        return (max(sample.rss for sample in self.samples) - self.idle_rss) / _MB

    @property
    def held_at(self) -> int:
        """Bytes that the upstream had sent for most of the time in which the client did not read."""
        return int(statistics.mode(sample.accepted for sample in self._before_abort()))

    @property
    def still_s(self) -> float:
        """Seconds for which the upstream could send nothing."""
        at = [sample.at_s for sample in self._before_abort() if sample.accepted == self.held_at]
        return at[-1] - at[0]

    @property
    def aborted_after_s(self) -> float | None:
        """Seconds from the client's last read to the abort at the upstream; None if none came."""
        return next((sample.at_s for sample in self.samples if sample.aborts), None)

    def _before_abort(self) -> list[Sample]:
        return [sample for sample in self.samples if not sample.aborts] or self.samples


def measure(site: Site, name: str = GATEWAY) -> SlowReader:
    """Open the stream, read 1 MB, stop, sample, and read again when the stream has ended.

    The target and its upstream are fresh processes, so that nothing else changes their counters.

    Raises:
        BenchError: the stream could not be opened.
    """
    with (
        running_upstream(site.folder) as port,
        started(name, replace(site, upstream_port=port, send_s=SEND_S)) as target,
    ):
        _warm_up(target)
        tree = procfs.process_tree(target.pid)
        seen = SlowReader(procfs.memory(tree).rss)
        with socket.create_connection(("127.0.0.1", target.port), timeout=10) as client:
            client.sendall(prediction(f"slow-{os.getpid()}", f"size={_STREAM_BYTES}"))
            _read(client, _READ_FIRST)
            began = time.monotonic()
            for stats in _watch(port):
                rss = procfs.memory(tree).rss
                taken = (stats["accepted"], stats["aborts"], stats["active"])
                seen.samples.append(Sample(time.monotonic() - began, rss, *taken))
            seen.received, seen.ending = _read_on(client)
    return seen


def _warm_up(target: Target) -> None:
    """Run some requests first, so that memory allocated once is not counted."""
    for number in range(20):
        with socket.create_connection(("127.0.0.1", target.port), timeout=10) as client:
            client.sendall(prediction(f"warm-{number}-{FLOW}", "count=1"))
            got = b""
            while not got.endswith(_LAST_CHUNK):  # one that leaves earlier has its run aborted
                got += _piece(client)


def _read(client: socket.socket, count: int) -> None:
    while count > 0:
        count -= len(_piece(client))


def _piece(client: socket.socket) -> bytes:
    piece = client.recv(65536)
    if not piece:
        raise BenchError("the stream ended before the client stopped reading")
    return piece


def _watch(upstream_port: int) -> Iterator[dict[str, int]]:
    """Yield the upstream's counters ten times per second until its stream has ended."""
    deadline = time.monotonic() + _TIMEOUT_S
    connection = http.client.HTTPConnection("127.0.0.1", upstream_port, timeout=5)
    try:
        while time.monotonic() < deadline:
            connection.request("GET", "/bench/stats")
            stats: dict[str, int] = json.load(connection.getresponse())
            yield stats
            if not stats["active"]:
                return
            time.sleep(_SAMPLE_S)
    finally:
        connection.close()


def _read_on(client: socket.socket) -> tuple[int, str]:
    """Read what is left in the kernel's buffers; returns its size and how the connection ends."""
    received, last = 0, b""
    client.settimeout(2)
    try:
        while piece := client.recv(1 << 20):
            received += len(piece)
            last = (last + piece)[-5:]
    except TimeoutError:
        return received, "still open"
    except OSError:
        return received, "reset"
    return (
        received,
        "complete, with the last chunk" if last == _LAST_CHUNK else "cut, without the last chunk",
    )


def render(seen: SlowReader) -> str:
    """One line for each half second, then the figures."""
    lines = ["   s   proxy RSS MB   upstream sent MB   aborts   streams open upstream"]
    due = 0.0
    for sample in seen.samples:
        if sample.at_s >= due or sample is seen.samples[-1]:
            due = sample.at_s + 0.5
            lines.append(
                f"{sample.at_s:4.1f}   {sample.rss / _MB:12.1f}   {sample.accepted / _MB:16.2f}"
                f"   {sample.aborts:6}   {sample.active:21}"
            )
    lines.append(
        f"idle RSS {seen.idle_rss / _MB:.1f} MB, largest growth {seen.growth_mb:.1f} MB; at the"
        f" end the client read {seen.received / _MB:.2f} MB more and its connection was {seen.ending}"
    )
    return "\n".join(lines)


def verdicts(seen: SlowReader | None) -> list[Verdict]:
    """Compare the samples with the project's targets."""
    targets = (
        f"slow reader: memory grows by ≤ {_GROWTH_MB} MB",
        f"slow reader: upstream paused ≥ {_MIN_STILL_S:.1f} s",
        f"slow reader: run aborted within {_ABORT_WITHIN_S} s (timeouts.send: {SEND_S}s)",
        "slow reader: client dropped, without a last chunk",
    )
    if seen is None:
        return [Verdict(one, "", None) for one in targets]
    aborted = seen.aborted_after_s
    held = f"{seen.still_s:.1f} s at {seen.held_at / _MB:.1f} of {_STREAM_BYTES / _MB:.0f} MB"
    return [
        Verdict(targets[0], f"{seen.growth_mb:.1f} MB", seen.growth_mb <= _GROWTH_MB),
        Verdict(targets[1], held, seen.still_s >= _MIN_STILL_S and seen.held_at < _STREAM_BYTES / 10),
        Verdict(
            targets[2],
            "no abort" if aborted is None else f"{aborted:.1f} s",
            aborted is not None and SEND_S - 1 <= aborted <= _ABORT_WITHIN_S,
        ),
        Verdict(targets[3], seen.ending, seen.ending.startswith(("cut", "reset"))),
    ]
