"""The only two ways in which a test waits without being told: for a state, and for time where time is the subject."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

GLANCE = 0.001


async def until(is_so: Callable[[], object]) -> None:
    """Look again and again, a thousand times a second; the test's own bound ends it."""
    while not is_so():
        await asyncio.sleep(GLANCE)


async def time_passes(seconds: float) -> None:
    """Let time pass: a deadline, a heartbeat or a slow peer is what is tested."""
    await asyncio.sleep(seconds)
