"""Limits counted in this process: the store `memory`, and what stands in for a shared store that is away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heappop, heappush
from time import monotonic_ns

from gateway.admission.gcra import changed, drained
from gateway.admission.quotas import Charge
from gateway.admission.store import Decision


class Leases:
    """The leases of one process; all times in microseconds."""

    def __init__(self, lease: int) -> None:
        self._lease = lease
        self._taken: dict[
            str, dict[str, int]
        ] = {}  # lease and its end; the oldest first, since all last equally long

    def __len__(self) -> int:
        return len(self._taken)

    def count(self, key: str, now: int) -> int:
        """How many are taken in this bucket."""
        leases = self._taken.get(key)
        if leases is None:
            return 0
        latest = now + self._lease
        if leases[next(reversed(leases))] > latest:  # the clock stepped back
            for lease in leases:
                leases[lease] = min(leases[lease], latest)
        while leases and leases[oldest := next(iter(leases))] <= now:
            del leases[oldest]
        if not leases:
            del self._taken[key]
        return len(leases)

    def take(self, key: str, lease: str, now: int) -> None:
        """Take one, or renew it; whether there is one left is not asked. `count` has been called for this time."""
        leases = self._taken.setdefault(key, {})
        leases.pop(lease, None)
        leases[lease] = now + self._lease

    def give_back(self, key: str, lease: str) -> None:
        """It is free; nothing happens if it was."""
        leases = self._taken.get(key)
        if leases is not None and leases.pop(lease, None) is not None and not leases:
            del self._taken[key]

    def sweep(self, now: int) -> None:
        """Forget the leases that ended."""
        for key in list(self._taken):
            self.count(key, now)


MOST_BUCKETS = 200_000  # about 100 MB
TRIES = 16  # buckets looked at to find the one that is full soonest
SWEPT_WITH_EACH = 2  # so that memory shrinks faster than it can grow
SWEPT_AT_ONCE = 500  # by the timer; under a millisecond


class Buckets:
    """The levels of one process; all times in microseconds."""

    def __init__(self, most: int = MOST_BUCKETS) -> None:
        self._most = most
        self._buckets: dict[str, list[int]] = {}  # used, since
        self._due: list[tuple[int, str]] = []  # a heap; one entry a bucket: when it is full again, or sooner

    def __len__(self) -> int:
        return len(self._buckets)

    def used(self, key: str, now: int) -> int:
        """What is used of this bucket."""
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0
        used, since = bucket
        if now < since:
            bucket[1] = now
        return drained(used, since, now)

    def put(self, key: str, used: int, now: int) -> None:
        """So much is used of it now."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket[0], bucket[1] = used, now
        elif used > 0:
            self._buckets[key] = [used, now]
            heappush(self._due, (now + used, key))
            self.sweep(now, SWEPT_WITH_EACH)
            if len(self._buckets) > self._most:
                self._evict(key)

    def sweep(self, now: int, most: int = SWEPT_AT_ONCE) -> None:
        """Forget buckets that are full again; looks at `most`."""
        due = self._due
        while due and due[0][0] <= now and most:
            most -= 1
            _, key = heappop(due)
            full = self._full_at(key)
            if full <= now:
                del self._buckets[key]
            else:
                heappush(due, (full, key))

    def _full_at(self, key: str) -> int:
        used, since = self._buckets[key]
        return since + used

    def _evict(self, newest: str) -> None:
        """Forget the bucket that is full soonest, but the newest."""
        seen: list[tuple[int, str]] = []
        while self._due and len(seen) < TRIES:
            noted, key = heappop(self._due)
            full = self._full_at(key)
            seen.append((full, key))
            if full <= noted and key != newest:
                break  # not used since it was noted: nothing behind it is sooner
        victim = min(entry for entry in seen if entry[1] != newest)
        del self._buckets[victim[1]]
        for entry in seen:
            if entry is not victim:
                heappush(self._due, entry)


def monotonic_microseconds() -> int:
    """A clock that nobody sets; it may stand still while the machine sleeps."""
    return monotonic_ns() // 1000


class MemoryStore:
    """All buckets of one process. `lease`: how long a slot lasts that is not renewed, in microseconds."""

    def __init__(
        self, lease: int, clock: Callable[[], int] = monotonic_microseconds, most: int = MOST_BUCKETS
    ) -> None:
        self._clock = clock
        self._levels = Buckets(most)
        self._slots = Leases(lease)

    def __len__(self) -> int:
        """How many buckets are known."""
        return len(self._levels) + len(self._slots)

    def step(self, asks: Sequence[Charge], lease: str) -> Decision:
        """Spend, charge and take everything that is asked for, or, if one limit refuses, nothing."""
        now = self._clock()
        used = [self._used(ask, now) for ask in asks]
        for ask, level in zip(asks, used, strict=True):
            if level + ask.rule.need > ask.rule.depth:
                return Decision(is_allowed=False, used=used)
        for place, ask in enumerate(asks):
            used[place] += ask.cost
            if ask.is_slot:
                self._slots.take(ask.key, lease, now)
            else:
                used[place] = changed(used[place], 0)
                self._levels.put(ask.key, used[place], now)
        return Decision(is_allowed=True, used=used)

    def peek(self, asks: Sequence[Charge]) -> list[int]:
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

    def _used(self, ask: Charge, now: int) -> int:
        if ask.is_slot:
            return self._slots.count(ask.key, now)
        return self._levels.used(ask.key, now)
