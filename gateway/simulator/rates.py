"""Flowise's own rate limit: a fixed window per chatflow and address; any `X-Forwarded-For` is trusted."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator

from gateway.simulator.flows import RateLimit
from gateway.simulator.replies import date
from gateway.simulator.requests import ReceivedRequest


class FixedWindow:
    """Counts the requests of one chatflow; the first window starts with the simulator."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._counts: Counter[str] = Counter()
        self._resets_at = time.time() + limit.seconds

    def spend(self, request: ReceivedRequest) -> int:
        """Count a request; returns how many are left, negative above the limit."""
        if time.time() >= self._resets_at:
            self._counts.clear()
            self._resets_at = time.time() + self._limit.seconds
        address = request.headers.get("X-Forwarded-For", request.peer).partition(",")[0].strip()
        self._counts[address] += 1
        return self._limit.requests - self._counts[address]

    def headers(self, left: int) -> Iterator[tuple[str, str]]:
        """express-rate-limit's headers in its order (captures rate-limited, rate-limited-forwarded)."""
        yield "X-RateLimit-Limit", str(self._limit.requests)
        yield "X-RateLimit-Remaining", str(max(0, left))
        yield date()
        yield "X-RateLimit-Reset", str(math.ceil(self._resets_at))
        if left < 0:
            yield "Retry-After", str(max(1, math.ceil(self._resets_at - time.time())))
