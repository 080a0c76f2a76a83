"""Waits for a lock that processes share, as that of the lines they write to one place, but not for ever.

One that stands still while it holds the lock (SIGSTOP, a frozen cgroup) does not silence the others.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from time import sleep

STANDS_STILL_AFTER = 1.0  # seconds; a process that holds the lock of the lines writes its own in microseconds
# seconds between two tries to get that lock; of the writing thread alone
FIRST_PAUSE, LONGEST_PAUSE = 0.0001, 0.02


def acquire(attempt: Callable[[], object], descriptor: int) -> bool:
    """Wait for a lock; returns whether it is held. The time in which nobody could write does not count.

    Args:
        attempt: takes the lock, or raises BlockingIOError.
        descriptor: where the lines go.
    """
    idle, pause = 0.0, FIRST_PAUSE
    while True:
        try:
            attempt()
        except BlockingIOError:
            if idle > STANDS_STILL_AFTER:
                return False
        else:
            return True
        sleep(pause)
        if _is_writable(descriptor):
            idle += pause
        pause = min(2 * pause, LONGEST_PAUSE)


def _is_writable(descriptor: int) -> bool:
    """Not by `select`, which takes no descriptor above 1,023."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))
