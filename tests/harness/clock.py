"""The only two ways to wait without an event: for a state, and for time to pass where time is what is tested."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

INTERVAL = 0.001


async def until(condition: Callable[[], object]) -> None:
    """Poll a condition 1,000 times a second; the bound of the test ends it."""
    while not condition():
        await asyncio.sleep(INTERVAL)


async def time_passes(seconds: float) -> None:
    """Let time pass, where a deadline, a heartbeat or a slow peer is what is tested."""
    await asyncio.sleep(seconds)
