"""Marks the steps of long work, between which a thread can give way (pure).

The work itself knows no thread and no clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_of_thread = threading.local()


def step() -> None:
    """Call this between two steps, each of a few milliseconds at most. In a thread without a hook it does nothing."""
    hook = getattr(_of_thread, "hook", None)
    if hook is not None:
        hook()


def call_between_steps(hook: Callable[[], None]) -> None:
    """Set the hook of the current thread."""
    _of_thread.hook = hook
