"""Counts the tokens of runs: those of a small reply at once, those of a large one in a thread.

The thread takes one at a time; the memory of those that wait is bounded by the budget.
"""

from __future__ import annotations

from gateway.aio import WorkThread
from gateway.flowise.content_budget import ContentBudget
from gateway.flowise.usage import Usage, UsageSource, count, plausible


class TokenCounting:
    """`budget`: of the replies that are kept; `most`: tokens that one run is believed to have used."""

    def __init__(self, budget: ContentBudget, most: int, thread: WorkThread) -> None:
        self.budget = budget
        self._most = most
        self._thread = thread

    def count(self, source: UsageSource, seen: int) -> Usage:
        """What is believed of a usage. `seen`: bytes of question and reply."""
        return plausible(count(source), seen, self._most)

    async def count_in_thread(self, source: UsageSource, seen: int) -> Usage:
        """As `count`, for a source that is heavy."""
        return await self._thread.run(self.count, source, seen)
