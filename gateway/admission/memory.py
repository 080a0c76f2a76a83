"""Limits counted in this process: the store `memory`, and what stands in for a shared store that is away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic_ns

from gateway.admission.gcra import changed
from gateway.admission.quotas import Ask
from gateway.admission.store import Step
from gateway.limiting.levels import MOST_BUCKETS, Levels
from gateway.limiting.slots import Slots


def monotonic_microseconds() -> int:
    """A clock that nobody sets; it may stand still while the machine sleeps."""
    return monotonic_ns() // 1000


class MemoryStore:
    """All buckets of one process. `lease`: how long a slot lasts that is not renewed, in microseconds."""

    def __init__(
        self, lease: int, clock: Callable[[], int] = monotonic_microseconds, most: int = MOST_BUCKETS
    ) -> None:
        self._clock = clock
        self._levels = Levels(most)
        self._slots = Slots(lease)

    def __len__(self) -> int:
        """How many buckets are known."""
        return len(self._levels) + len(self._slots)

    def step(self, asks: Sequence[Ask], lease: str) -> Step:
        """Spend, charge and take everything that is asked for, or, if one limit refuses, nothing."""
        now = self._clock()
        used = [self._used(ask, now) for ask in asks]
        for ask, level in zip(asks, used, strict=True):
            if level + ask.rule.need > ask.rule.depth:
                return Step(is_allowed=False, used=used)
        for place, ask in enumerate(asks):
            used[place] += ask.cost
            if ask.is_slot:
                self._slots.take(ask.key, lease, now)
            else:
                used[place] = changed(used[place], 0)
                self._levels.put(ask.key, used[place], now)
        return Step(is_allowed=True, used=used)

    def peek(self, asks: Sequence[Ask]) -> list[int]:
        """What is used of each; spends nothing."""
        now = self._clock()
        return [self._used(ask, now) for ask in asks]

    def settle(self, differences: Mapping[str, int]) -> None:
        """Charge so much more to each of these buckets, or give it back if it is below zero."""
        now = self._clock()
        for key, difference in differences.items():
            self._levels.put(key, changed(self._levels.used(key, now), difference), now)

    def renew(self, leases: Iterable[tuple[str, str]]) -> None:
        """These runs go on: bucket and lease of each. What was not renewed in time is forgotten."""
        now = self._clock()
        for key, lease in leases:
            self._slots.count(key, now)
            self._slots.take(key, lease, now)
        self._slots.sweep(now)

    def release(self, keys: Iterable[str], lease: str) -> None:
        """This run has ended."""
        for key in keys:
            self._slots.give_back(key, lease)

    def sweep(self) -> None:
        """Forget buckets that are full again, some at a time; called by the timer."""
        self._levels.sweep(self._clock())

    def _used(self, ask: Ask, now: int) -> int:
        if ask.is_slot:
            return self._slots.count(ask.key, now)
        return self._levels.used(ask.key, now)
