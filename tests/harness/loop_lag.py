"""A watchdog on the event loop of the gateway under test."""

from __future__ import annotations

import asyncio
import gc
from contextlib import contextmanager
from time import perf_counter, process_time

from tests.harness import bounds

INTERVAL = 0.005  # seconds between two looks
QUIET, BUSY = 0.05, 0.1  # seconds that the loop may stand still, on an idle and on a busy machine
MOST = BUSY * bounds.SLOWNESS


class LoopLag:
    """The longest time for which this process kept its own loop from turning.

    A look that is late because other processes had the cores does not count: a stall is at most the CPU time that this
    process used since the last look, in whatever thread. So a C function that holds the interpreter counts too.
    """

    def __init__(self) -> None:
        self.worst = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._at = self._cpu = 0.0

    def start(self) -> None:
        self._at, self._cpu = perf_counter(), process_time()
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look)

    def stop(self) -> None:
        """Look once more: a stall that lasts until now has no later look."""
        self._timer.cancel()
        self._note()

    def _look(self) -> None:
        self._note()
        self.start()

    def _note(self) -> None:
        passed, used = perf_counter() - self._at, process_time() - self._cpu
        self.worst = max(self.worst, min(passed, used) - INTERVAL)


@contextmanager
def loop_lag():
    """Watch the running loop for the length of the block."""
    watch = LoopLag()
    gc.collect()
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()
