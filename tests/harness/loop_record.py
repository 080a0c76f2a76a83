"""A record of an event loop: what it did between two looks, and what the machine did to it meanwhile.

On a machine with fewer cores than work a loop is late because others have the cores. Linux says for how long: the second
number of `/proc/PID/task/TID/schedstat` is the time for which a thread could run and did not. What a look has beyond it is
the doing of the process.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread, get_ident, get_native_id
from threading import enumerate as enumerate_threads
from time import monotonic_ns, thread_time_ns

INTERVAL = 0.005  # seconds between two looks
LONG = 30.0  # milliseconds of work that are reported with their place
THREADS_EVERY = 100  # looks after which new threads are found
WRITE_AT_ONCE = 1000  # looks
_LOOK = struct.Struct("<qIIII")
_MS, _US = 1_000_000, 1_000  # nanoseconds


@dataclass(frozen=True, slots=True)
class Look:
    """What was between two looks, in milliseconds; `at`: nanoseconds of the monotonic clock at its end.

    Attributes:
        passed: all of it.
        worked: CPU time of the loop's thread.
        queued: it could run, and other processes had the cores.
        others_queued: likewise of the other threads, one of which may have had the interpreter meanwhile.
    """

    at: int
    passed: float
    worked: float
    queued: float
    others_queued: float

    @property
    def work(self) -> float:
        """What one iteration of the loop took at most."""
        return max(0.0, self.worked - 1000 * INTERVAL)

    @property
    def lag(self) -> float:
        return max(0.0, self.passed - 1000 * INTERVAL)

    @property
    def machine(self) -> float:
        """Of the lag: waiting for a core. Of the other threads only as long as the loop neither worked nor could."""
        blocked = max(0.0, self.lag - self.worked - self.queued)
        return min(self.lag, self.queued + min(blocked, self.others_queued))

    @property
    def own_lag(self) -> float:
        return self.lag - self.machine


class Queued:
    """The time for which the threads of this process have waited for a core."""

    def __init__(self) -> None:
        self._loop = self._open(get_native_id())
        self._files: dict[int, int] = {}
        self._seen: dict[int, tuple[int, int]] = {}
        self._until_listed = 0
        self.ran: dict[int, int] = {}  # nanoseconds of CPU of the other threads between the last two calls

    def since(self) -> tuple[int, int]:
        """Nanoseconds since the last call: of this thread, and of all others together."""
        if self._until_listed == 0:
            self._until_listed = THREADS_EVERY
            self._find_threads()
        self._until_listed -= 1
        others = 0
        self.ran.clear()
        for thread, file in self._files.items():
            self.ran[thread], queued = self._more(file)
            others += queued
        return self._more(self._loop)[1], others

    def _find_threads(self) -> None:
        for folder in Path("/proc/self/task").iterdir():
            thread = int(folder.name)
            if thread != get_native_id() and thread not in self._files:
                self._files[thread] = self._open(thread)

    def _open(self, thread: int) -> int:
        try:
            return os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY)
        except OSError:  # it has ended
            return -1

    def _more(self, file: int) -> tuple[int, int]:
        try:
            ran, queued, _ = map(int, os.pread(file, 100, 0).split())
        except OSError:  # it has ended
            return 0, 0
        was_ran, was_queued = self._seen.get(file, (ran, queued))
        self._seen[file] = ran, queued
        return ran - was_ran, queued - was_queued


class LoopRecord:
    """Looks at the running loop, from `start` on.

    Another thread writes each look into a file: a disk that is busy would hold the loop. `on_long` is called with a look
    that has much work or lag, the places that this thread has seen in it, and what other threads worked meanwhile.
    """

    def __init__(self, path: Path, on_long: Callable[[Look, list[str]], None] | None = None) -> None:
        self._file = path.open("wb")
        self._on_long = on_long
        self._places: list[str] = []
        self._unwritten: deque[bytes] = deque()
        self.worst_work = self.worst_lag = 0.0  # milliseconds, until somebody sets them

    def start(self) -> None:
        self._queued = Queued()
        self._queued.since()
        self._at, self._worked = monotonic_ns(), thread_time_ns()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(INTERVAL, self._look)
        self._stopped = Event()
        self._thread = Thread(target=self._watch, args=(get_ident(),), daemon=True)
        self._thread.start()

    def flush(self) -> None:
        """Write everything now."""
        self._write()
        self._file.flush()

    def stop(self) -> None:
        self._timer.cancel()
        self._stopped.set()
        self._thread.join()
        self.flush()
        self._file.close()

    def _write(self) -> None:
        while self._unwritten:
            self._file.write(self._unwritten.popleft())

    def _look(self) -> None:
        at, worked = monotonic_ns(), thread_time_ns()
        queued, others = self._queued.since()
        parts = (at - self._at, worked - self._worked, queued, others)
        self._unwritten.append(_LOOK.pack(at, *(part // _US for part in parts)))
        look = Look(at, *(part / _MS for part in parts))
        self.worst_work, self.worst_lag = max(self.worst_work, look.work), max(self.worst_lag, look.own_lag)
        if self._on_long is not None and (look.work > LONG or look.own_lag > 2 * LONG):
            names = {thread.native_id: thread.name for thread in enumerate_threads()}
            ran = {
                names.get(one, "?"): round(part / _MS, 1)
                for one, part in self._queued.ran.items()
                if part > _MS
            }
            self._on_long(look, [*self._places, f"other threads, ms of CPU: {ran}"])
        self._places = []
        self._at, self._worked = at, worked
        self._timer = self._loop.call_later(INTERVAL, self._look)

    def _watch(self, loop_thread: int) -> None:
        while not self._stopped.wait(2 * INTERVAL):
            if monotonic_ns() - self._at > 1e6 * LONG / 2:
                self._places.append(_place(loop_thread))
            elif len(self._unwritten) > WRITE_AT_ONCE:
                self._write()


def _place(thread: int) -> str:
    """The innermost functions of a thread."""
    frame, found = sys._current_frames().get(thread), []
    while frame is not None and len(found) < 5:
        found.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(found)


@dataclass(frozen=True, slots=True)
class Spread:
    """Of some milliseconds; `str` gives 99th percentile, 99.9th and the largest."""

    p99: float
    p999: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ordered = sorted(values) or [0.0]
        last = len(ordered) - 1
        return cls(ordered[int(0.99 * last)], ordered[int(0.999 * last)], ordered[last])

    def __str__(self) -> str:
        return f"{self.p99:.1f}/{self.p999:.1f}/{self.most:.1f}"


class Looks:
    """A record that was written, in the order of time."""

    def __init__(self, path: Path, since: int = 0) -> None:
        """`since`: nanoseconds of the monotonic clock."""
        content = path.read_bytes()
        whole = content[: len(content) - len(content) % _LOOK.size]
        looks = (Look(at, *(part * _US / _MS for part in parts)) for at, *parts in _LOOK.iter_unpack(whole))
        self.all = sorted((look for look in looks if look.at > since), key=lambda look: look.at)
        self._ends = [look.at for look in self.all]

    def of_machine(self, begin: int, end: int) -> float:
        """Milliseconds between two times for which the loop waited for a core."""
        return sum(min(look.machine, overlap) for look, overlap in self._between(begin, end))

    def late(self, begin: int, end: int) -> float:
        """Milliseconds between two times for which the loop was late, for whatever reason."""
        return sum(min(look.lag, overlap) for look, overlap in self._between(begin, end))

    def _between(self, begin: int, end: int) -> Iterable[tuple[Look, float]]:
        """The looks that overlap, and by how much."""
        first = bisect_right(self._ends, begin)
        for look in self.all[first : bisect_left(self._ends, end) + 1]:
            starts = look.at - look.passed * _MS
            yield look, max(0.0, (min(end, look.at) - max(begin, starts)) / _MS)
