"""Slots in memory: the leases of each bucket, which end by themselves unless they are renewed."""

from __future__ import annotations


class Slots:
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
