"""Counts the tokens of runs: those of a small reply at once, those of a large one in a thread of its own.

One thread, so that one large reply is counted at a time; the memory of those that wait is bounded by the budget.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from gateway.flowise.content_budget import ContentBudget
from gateway.flowise.usage import Usage, UsageSource, count, plausible


class TokenCounting:
    """`kept`: bytes of replies that are kept at once; `most`: tokens that one run is believed to have used."""

    def __init__(self, kept: int, most: int) -> None:
        self.budget = ContentBudget(kept)
        self._most = most
        self._thread = ThreadPoolExecutor(1, "count")

    def count(self, source: UsageSource, seen: int) -> Usage:
        """What is believed of a usage. `seen`: bytes of question and reply."""
        return plausible(count(source), seen, self._most)

    async def count_in_thread(self, source: UsageSource, seen: int) -> Usage:
        """As `count`, for a source that is heavy."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.count, source, seen)

    def close(self) -> None:
        """Count nothing more; what is being counted ends within some 100 ms."""
        self._thread.shutdown(wait=False, cancel_futures=True)
