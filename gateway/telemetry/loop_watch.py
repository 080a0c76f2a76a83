"""Measures always how late the event loop is, and logs what holds it for long."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event, Thread, get_ident
from types import FrameType

from gateway.telemetry.logs import Logger

BEAT = 0.05  # seconds between two measurements
LONG = 0.25  # seconds of lag that are logged
LOOK_EVERY = 0.1  # seconds between two looks of the thread at the loop
VERY_LONG = 5.0  # seconds after which the line does not wait for the end
_FOLDER = str(Path(__file__).parents[1])


class LoopWatch:
    """A timer of the loop measures; a thread looks at what the loop does while the timer is late.

    From `start` to `stop`.
    """

    def __init__(self, observe: Callable[[float], object], logger: Logger) -> None:
        """`observe` is called with the seconds of each measurement."""
        self._observe = observe
        self._logger = logger
        self._beat_at = 0.0
        self._cpu_time: Callable[[], float] = time.process_time
        self._cpu_at = 0.0  # its seconds at the last beat
        self._next: asyncio.TimerHandle | None = None
        self._stopped = Event()
        self._seen: dict[
            str, object
        ] = {}  # what held the loop, of the lag that is under way or has just ended

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._cpu_time = _cpu_time_of_this_thread()
        self._beat_at, self._cpu_at = time.monotonic(), self._cpu_time()
        self._next = loop.call_later(BEAT, self._beat, loop)
        Thread(target=self._watch, args=(loop, get_ident()), name="loop watch", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        if self._next is not None:
            self._next.cancel()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        lag = max(0.0, now - self._beat_at - BEAT)
        self._observe(lag)
        if lag > LONG:
            self._log(lag)
        self._seen = {}
        self._beat_at, self._cpu_at = now, self._cpu_time()
        self._next = loop.call_later(BEAT, self._beat, loop)

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        logged_beat = 0.0
        while not self._stopped.wait(LOOK_EVERY):
            beat_at = self._beat_at
            lag = time.monotonic() - beat_at - BEAT
            if lag < LOOK_EVERY:
                continue
            self._seen = self._seen or _held_by(loop, thread)
            if lag > VERY_LONG and beat_at != logged_beat:
                logged_beat = beat_at
                self._log(lag)

    def _log(self, lag: float) -> None:
        """Far less CPU time than lag: the loop has not worked but waited, for a core, a lock or the disk."""
        cpu = self._cpu_time() - self._cpu_at
        self._logger.warning("loop_blocked", lag_s=round(lag, 3), cpu_s=round(cpu, 3), **self._seen)


def _cpu_time_of_this_thread() -> Callable[[], float]:
    """A clock for any thread, in seconds; of the whole process where the system has none of a thread (macOS)."""
    clock_of = getattr(time, "pthread_getcpuclockid", None)
    return time.process_time if clock_of is None else partial(time.clock_gettime, clock_of(get_ident()))


def _held_by(loop: asyncio.AbstractEventLoop, thread: int) -> dict[str, object]:
    """The task that runs on the loop, and the innermost line of the gateway's own."""
    task = asyncio.current_task(loop)
    return {
        "task": None if task is None else task.get_name(),
        "where": _place(sys._current_frames().get(thread)),  # noqa: SLF001 - the only way to another thread's frames
    }


def _place(frame: FrameType | None) -> str | None:
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_FOLDER):
            name = code.co_filename.removeprefix(_FOLDER)
            return f"gateway{name}:{frame.f_lineno} {code.co_qualname}"
        frame = frame.f_back
    return None
