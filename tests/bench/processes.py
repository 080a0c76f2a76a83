"""The processes of the benchmark. None of them outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_GRACE_S = 5.0
_START_S = 60.0  # LiteLLM takes most of it
_ROOT = Path(__file__).parents[2]


class BenchError(Exception):
    """Why a measurement could not be made."""


@dataclass(frozen=True)
class Cores:
    """The core of the proxy, and that of load generator and upstream; None leaves it to the kernel."""

    proxy: int | None = None
    rest: int | None = None

    @classmethod
    def pinned(cls) -> Cores:
        """The proxy on the first core, everything else on the second."""
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            raise BenchError("--pin needs two cores, this machine offers one; run without it")
        return cls(usable[0], usable[1])


@contextlib.contextmanager
def _on_core(core: int | None) -> Iterator[None]:
    """Pin processes that are started within the block to one core."""
    usable = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, core: int | None = None, stdout: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a process in a group of its own for the length of the block; its output goes to `log`."""
    with log.open("w") as sink, _on_core(core):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout or sink,
            stderr=sink,
            start_new_session=True,
            cwd=_ROOT,
            text=True,
        )
    with process:
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    """End the whole process group: SIGTERM, then SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def running_upstream(folder: Path, core: int | None = None) -> Iterator[int]:
    """Run the benchmark's upstream; yields its port."""
    log = folder / f"upstream-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "tests.bench.upstream"]
    with running(command, log, core, stdout=subprocess.PIPE) as process:
        line = process.stdout.readline() if process.stdout else ""
        if not line.strip():
            raise BenchError("the upstream did not start:\n" + tail(log))
        yield int(line)


def run_load(job: bytes, core: int | None = None, timeout_s: float = 120) -> bytes:
    """Run one job of the load generator in a process of its own and return what it printed."""
    command = [sys.executable, "-m", "tests.bench.load", job.decode()]
    with _on_core(core):
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                start_new_session=True,
                cwd=_ROOT,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"the load generator did not end within {timeout_s:.0f} s") from error
    if done.returncode:
        raise BenchError(done.stderr.decode().strip().rpartition("\n")[2])
    return done.stdout


def wait_until_listening(process: subprocess.Popen[str], port: int, log: Path) -> None:
    """Return when the port takes connections.

    Raises:
        BenchError: the process ended, or did not listen within a minute; with the end of its log.
    """
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(f"ended with code {process.returncode} instead of listening:\n{tail(log)}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise BenchError(f"does not listen on port {port} after {_START_S:.0f} s:\n{tail(log)}")


def tail(log: Path, lines: int = 8) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
