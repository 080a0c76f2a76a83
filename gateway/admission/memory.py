"""Limits counted in this process: the store `memory`, and the fallback while a shared store is away.

All times are microseconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heappop, heappush
from time import monotonic_ns

from gateway.admission.gcra import MAX_USED, SECOND, Correction, adjusted, drained
from gateway.admission.quotas import Charge
from gateway.admission.store import Decision

MAX_BUCKETS = 200_000  # about 100 MB
EVICTION_TRIES = 16  # buckets looked at to find the one that is full soonest
SWEEP_PER_INSERT = 2  # so that memory shrinks faster than it can grow
SWEEP_PER_TICK = 500  # takes less than a millisecond


def monotonic_microseconds() -> int:
    """A clock that is never set; it may stand still while the machine sleeps."""
    return monotonic_ns() // 1000


class MemoryStore:
    """All buckets of one process. `lease`: how long a slot lasts without renewal."""

    def __init__(
        self, lease: int, clock: Callable[[], int] = monotonic_microseconds, max_buckets: int = MAX_BUCKETS
    ) -> None:
        self._clock = clock
        self._buckets = Buckets(max_buckets)
        self._leases = Leases(lease)

    def __len__(self) -> int:
        return len(self._buckets) + len(self._leases)

    @property
    def seconds(self) -> float:
        """The time of this store's clock."""
        return self._clock() / SECOND

    def apply(self, charges: Sequence[Charge], lease: str) -> Decision:
        """Make all charges, or none if one limit refuses."""
        now = self._clock()
        slots, buckets = self._leases.count, self._buckets.used
        used = [(slots if charge.is_slot else buckets)(charge.key, now) for charge in charges]
        for charge, level in zip(charges, used, strict=True):
            if level + charge.rule.need > charge.rule.depth:
                return Decision(is_allowed=False, used=used)
        for place, charge in enumerate(charges):
            used[place] += charge.cost
            if charge.is_slot:
                self._leases.acquire(charge.key, lease, now)
            else:
                used[place] = min(MAX_USED, used[place])
                self._buckets.put(charge.key, used[place], now)
        return Decision(is_allowed=True, used=used)

    def peek(self, charges: Sequence[Charge]) -> list[int]:
        """What is used of each bucket; charges nothing."""
        now = self._clock()
        return [self._used(charge, now) for charge in charges]

    def settle(self, corrections: Mapping[str, Correction]) -> None:
        """Correct each bucket; one that was never charged is full."""
        now = self._clock()
        for key, correction in corrections.items():
            self._buckets.put(key, adjusted(self._buckets.used(key, now), correction), now)

    def renew(self, leases: Iterable[tuple[str, str]]) -> None:
        """Renew leases, given as bucket and lease id; forget those that have expired."""
        now = self._clock()
        for key, lease in leases:
            self._leases.count(key, now)
            self._leases.acquire(key, lease, now)
        self._leases.sweep(now)

    def release(self, keys: Iterable[str], lease: str) -> None:
        for key in keys:
            self._leases.release(key, lease)

    def sweep(self) -> None:
        """Forget some of the buckets that are full again; called by the timer."""
        self._buckets.sweep(self._clock())

    def _used(self, charge: Charge, now: int) -> int:
        if charge.is_slot:
            return self._leases.count(charge.key, now)
        return self._buckets.used(charge.key, now)


class Buckets:
    """What is used of each rate or token limit.

    At capacity, evict the bucket closest to full. An attacker cannot flush a debt by creating fresh keys: fresh keys
    are evicted first.
    """

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._max = max_buckets
        self._buckets: dict[str, list[int]] = {}  # used, since
        self._due: list[
            tuple[int, str]
        ] = []  # a heap, one entry per bucket: when it is full again, or earlier

    def __len__(self) -> int:
        return len(self._buckets)

    def used(self, key: str, now: int) -> int:
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0
        used, since = bucket
        if now < since:
            bucket[1] = now
        return drained(used, since, now)

    def put(self, key: str, used: int, now: int) -> None:
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket[0], bucket[1] = used, now
        elif used > 0:
            self._buckets[key] = [used, now]
            heappush(self._due, (now + used, key))
            self.sweep(now, SWEEP_PER_INSERT)
            if len(self._buckets) > self._max:
                self._evict(key)

    def sweep(self, now: int, limit: int = SWEEP_PER_TICK) -> None:
        """Forget buckets that are full again; looks at up to `limit` of them."""
        due = self._due
        while due and due[0][0] <= now and limit:
            limit -= 1
            _, key = heappop(due)
            full = self._full_at(key)
            if full <= now:
                del self._buckets[key]
            else:
                heappush(due, (full, key))

    def _evict(self, newest: str) -> None:
        seen: list[tuple[int, str]] = []
        while self._due and len(seen) < EVICTION_TRIES:
            noted, key = heappop(self._due)
            full = self._full_at(key)
            seen.append((full, key))
            if full <= noted and key != newest:
                break  # not used since it was noted: no later entry is full sooner
        victim = min(entry for entry in seen if entry[1] != newest)
        del self._buckets[victim[1]]
        for entry in seen:
            if entry is not victim:
                heappush(self._due, entry)

    def _full_at(self, key: str) -> int:
        used, since = self._buckets[key]
        return since + used


class Leases:
    """The slots that are held, by bucket. Each is a lease that ends by itself."""

    def __init__(self, lease: int) -> None:
        self._lease = lease
        # by bucket: lease ids and their ends, the oldest first, since all last equally long
        self._held: dict[str, dict[str, int]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def count(self, key: str, now: int) -> int:
        leases = self._held.get(key)
        if leases is None:
            return 0
        latest = now + self._lease
        if leases[next(reversed(leases))] > latest:  # the clock stepped back
            for lease in leases:
                leases[lease] = min(leases[lease], latest)
        while leases and leases[oldest := next(iter(leases))] <= now:
            del leases[oldest]
        if not leases:
            del self._held[key]
        return len(leases)

    def acquire(self, key: str, lease: str, now: int) -> None:
        """Add or renew a lease, without a check of the limit; call `count` for the same `now` first."""
        leases = self._held.setdefault(key, {})
        leases.pop(lease, None)
        leases[lease] = now + self._lease

    def release(self, key: str, lease: str) -> None:
        """Remove a lease; no error if there is none."""
        leases = self._held.get(key)
        if leases is not None and leases.pop(lease, None) is not None and not leases:
            del self._held[key]

    def sweep(self, now: int) -> None:
        """Forget the leases that have ended."""
        for key in list(self._held):
            self.count(key, now)
