"""What each process keeps of requests that have ended: the last log lines, and what each caller has used.

A request costs one call, an append and a few additions, about 1 µs; nothing is read before there is a viewer.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from time import time
from typing import Any, NamedTuple

from msgspec import Struct

from gateway.admission.gcra import LimitStatus
from gateway.admission.limiter import Admission
from gateway.admission.quotas import Charge, Quota
from gateway.auth.caller import ANONYMOUS
from gateway.exchange import Exchange
from gateway.page.sample import MOST_LINES

MOST_CALLERS = 1000  # of a route; the one that was away for longest is forgotten, about 1 KB each
_BY_ADDRESS = (ANONYMOUS.name, None)  # callers that limits count by address


class KeptLine(NamedTuple):
    """A request's log line. `number`: from 1 in each process; `ended`: seconds since the epoch."""

    number: int
    ended: float
    line: Mapping[str, Any]


class Used(Struct):
    """What a caller has used on a route since the process began. `last`: seconds since the epoch."""

    route: str
    caller: str
    requests: int = 0
    not_ok: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    last: float = 0.0
    limited: tuple[tuple[Quota, LimitStatus], ...] = ()  # of its last request, with its admissions
    admissions: tuple[Admission, ...] = ()

    def limits(self) -> Iterator[tuple[Quota, Charge]]:
        """Those that applied to its last request."""
        quotas = (quota for quota, _ in self.limited)
        charges = (charge for admission in self.admissions for charge in admission.charges)
        return zip(quotas, charges, strict=True)


class Recent:
    """Of one process. `keep` is called once for each request."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, float, Mapping[str, Any]]] = deque(maxlen=MOST_LINES)
        self._count = 0
        self._used: OrderedDict[tuple[str, str], Used] = OrderedDict()

    def keep(self, exchange: Exchange, line: Mapping[str, Any]) -> None:
        now = time()
        self._count += 1
        self._lines.append((self._count, now, line))  # a KeptLine would be one more call
        if exchange.route is None:
            return
        caller = line["caller"]
        key = exchange.route.name, exchange.client if caller in _BY_ADDRESS else caller
        used = self._used.get(key)
        if used is None:
            used = self._used[key] = Used(*key)
            if len(self._used) > MOST_CALLERS:
                self._used.popitem(last=False)
        else:
            self._used.move_to_end(key)
        used.requests += 1
        used.not_ok += line["outcome"] != "ok"
        used.tokens_in += line["tokens_in"] or 0
        used.tokens_out += line["tokens_out"] or 0
        used.last = now
        if exchange.admissions:
            used.limited, used.admissions = exchange.limit_statuses, exchange.admissions

    def lines_after(self, number: int) -> list[KeptLine]:
        """Those that are kept of the lines after this one."""
        return [KeptLine(*kept) for kept in self._lines if kept[0] > number]

    def used(self) -> Iterator[Used]:
        """What callers have used, the latest first."""
        return reversed(self._used.values())

    @property
    def last_line(self) -> int:
        """The number of the last line; 0: there is none."""
        return self._count

    @property
    def callers(self) -> int:
        """How many callers there are, each counted on each of its routes."""
        return len(self._used)
