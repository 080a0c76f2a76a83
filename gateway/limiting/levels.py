"""Buckets in memory: each key's level, forgotten once it is full again, and never more than a fixed number of them.

Above that number the bucket that is full soonest is forgotten. So who wants to be rid of a debt would need that many
identities with larger debts, and a crowd of fresh ones, each with one request, only pushes out each other.
"""

from __future__ import annotations

from heapq import heappop, heappush

from gateway.admission.gcra import drained

MOST_BUCKETS = 200_000  # about 100 MB
TRIES = 16  # buckets looked at to find the one that is full soonest
SWEPT_WITH_EACH = 2  # so that memory shrinks faster than it can grow
SWEPT_AT_ONCE = 500  # by the timer; under a millisecond


class Levels:
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
