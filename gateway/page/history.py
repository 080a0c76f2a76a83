"""The last hour of requests by route, from counters that there are anyway (pure).

It takes the difference between two looks at the counters of all processes: at the end of each slot, and each second
while there is a viewer. A request costs nothing, and a worker that is killed loses nothing.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct, field

from gateway.telemetry.request_counts import Counts, Series

SLOT = 15  # seconds
SLOTS = 240  # of an hour
MOST_SERIES = 400  # a route with an outcome, in one slot; the others are one route, `OTHERS`
MOST_BOUNDS = 10_000  # upper bounds of first tokens, 22 for each route; other routes have no quantiles
MOST_ROUTES = 12  # that the page draws; a total is drawn besides
OTHERS = "(other routes)"
RATE_OVER = 6  # looks
Row = dict[str, dict[str, int]]  # requests by outcome, of each drawn route and, as the route "", of all


class Slot(Struct):
    """What came within one slot."""

    requests: Counter[Series] = field(default_factory=Counter)
    first_tokens: Counter[tuple[str, float]] = field(default_factory=Counter)  # up to each bound, cumulative


class Hour(NamedTuple):
    """A route in the last hour: requests by outcome, and quantiles of the first token in seconds, if there was one."""

    outcomes: Mapping[str, int]
    p50: float | None
    p95: float | None


class History:
    """The slots of the last hour; `take` is called with ever later times."""

    def __init__(self, *, is_from_start: bool = True) -> None:
        """`is_from_start`: of the processes; otherwise what the first look finds was counted before."""
        self._slots: dict[int, Slot] = {}
        self._hour = Slot()  # the sum of all slots
        self._before = Counts({}, {}) if is_from_start else None
        self._looks: deque[tuple[float, Counter[str]]] = deque(maxlen=RATE_OVER)
        self._drawn: list[str] = []
        self._chosen_at = 0  # the slot
        self._rows: dict[int, Row] = {}  # of slots that have ended

    def take(self, now: float, counts: Counts) -> None:
        """Add what was counted since the last look. `now`: seconds since the epoch."""
        if self._looks:
            now = max(now, self._looks[-1][0])  # the clock was set back
        number = int(now // SLOT)
        slot = self._slots.setdefault(number, Slot())
        if self._before is not None:
            self._add(slot, self._before, counts)
        self._before = counts
        totals: Counter[str] = Counter()
        for (route, _), count in counts.requests.items():
            totals[route] += int(count)
        self._looks.append((now, totals))
        for old in [old for old in self._slots if old <= number - SLOTS]:
            self._rows.pop(old, None)
            self._subtract(self._slots.pop(old))

    def _add(self, slot: Slot, before: Counts, after: Counts) -> None:
        hour = self._hour
        for (route, outcome), count in after.requests.items():
            if more := int(count - before.requests.get((route, outcome), 0)):
                is_known = (route, outcome) in hour.requests or len(hour.requests) < MOST_SERIES
                series = route if is_known else OTHERS, outcome
                slot.requests[series] += more
                hour.requests[series] += more
        for route, bounds in after.first_tokens.items():
            known = before.first_tokens.get(route, {})
            is_known = (route, math.inf) in hour.first_tokens or len(hour.first_tokens) < MOST_BOUNDS
            if bounds != known and is_known:
                for (
                    bound,
                    count,
                ) in bounds.items():  # also those that have none: a quantile lies between two of them
                    more = int(count - known.get(bound, 0))
                    slot.first_tokens[route, bound] += more
                    hour.first_tokens[route, bound] += more

    def _subtract(self, slot: Slot) -> None:
        self._hour.requests.subtract(slot.requests)
        self._hour.first_tokens.subtract(slot.first_tokens)
        for series in [series for series, count in self._hour.requests.items() if count <= 0]:
            del self._hour.requests[series]
        first_tokens = self._hour.first_tokens
        idle = {route for (route, bound), count in first_tokens.items() if bound == math.inf and count <= 0}
        for key in [key for key in first_tokens if key[0] in idle]:
            del first_tokens[key]

    def rates(self) -> dict[str, float]:
        """Requests a second of each route, over the last looks."""
        if len(self._looks) < 2:
            return {}
        (then, before), (now, after) = self._looks[0], self._looks[-1]
        return {route: (count - before[route]) / max(now - then, 0.001) for route, count in after.items()}

    def routes(self) -> dict[str, Hour]:
        """What the hour has of each route and, as the route "", of all together."""
        outcomes: dict[str, dict[str, int]] = {}
        for (route, outcome), count in self._hour.requests.items():
            for name in ("", route):
                row = outcomes.setdefault(name, {})
                row[outcome] = row.get(outcome, 0) + count
        bounds: dict[str, dict[float, int]] = {name: {} for name in outcomes}
        for (route, bound), count in self._hour.first_tokens.items():
            for name in ("", route):
                up_to = bounds.setdefault(name, {})
                up_to[bound] = up_to.get(bound, 0) + count
        return {
            name: Hour(row, quantile(0.5, bounds[name]), quantile(0.95, bounds[name]))
            for name, row in outcomes.items()
        }

    def drawn(self) -> Sequence[str]:
        """The routes with most requests, chosen anew with each slot, and while there are fewer than may be drawn."""
        requests: Counter[str] = Counter()
        for (route, _), count in self._hour.requests.items():
            requests[route] += count
        last = max(self._slots, default=0)
        if self._chosen_at != last or len(self._drawn) < MOST_ROUTES:
            self._chosen_at = last
            names = sorted(route for route, _ in requests.most_common(MOST_ROUTES))
            if names != self._drawn:
                self._rows.clear()
                self._drawn = names
        return self._drawn

    def slots(self) -> Iterator[tuple[int, Row]]:
        """Each slot that has requests, by its number; the rows of those that have ended stay the same objects."""
        drawn, last = self.drawn(), max(self._slots, default=0)
        for number, slot in self._slots.items():
            row = self._rows.get(number)
            if row is None:
                row = _row(slot, drawn)
                if number != last:
                    self._rows[number] = row
            if row:
                yield number, row


def _row(slot: Slot, drawn: Sequence[str]) -> Row:
    row: Row = {}
    for (route, outcome), count in slot.requests.items():
        for name in ("", route) if route in drawn else ("",):
            outcomes = row.setdefault(name, {})
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    return row


def quantile(share: float, counts: Mapping[float, float]) -> float | None:
    """The quantile of a cumulative histogram, as PromQL's histogram_quantile estimates it; None: nothing came.

    `counts`: the number of values up to each bound; the last bound is infinite.
    """
    total = counts.get(math.inf, 0)
    if not total:
        return None
    lower, below = 0.0, 0.0
    for bound in sorted(counts):
        count = counts[bound]
        if count >= share * total:
            if bound == math.inf:
                return lower
            within = count - below
            part = (share * total - below) / within if within else 1.0
            return round(lower + (bound - lower) * part, 4)
        lower, below = bound, count
    return lower
