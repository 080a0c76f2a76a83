"""Whether a server may be used, from what checks and requests have shown (pure; every time is in monotonic seconds).

A server is up unless a number of checks in a row failed, or so did requests, which ejects it for a while. Then one
request tries it: if that fails, the time begins again. While no server of an upstream is up, one request at a time
tries one of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Struct, field


class Rules(Struct, frozen=True):
    """When a server goes and comes back.

    Attributes:
        fall: failed checks in a row that take it out.
        rise: passed checks in a row that bring it back.
        failures: failures of requests in a row that eject it.
        within: seconds, from the first to the last of them.
        out_for: seconds until a request tries it again.
        most: the share of servers that may be out when one is ejected.
    """

    fall: int
    rise: int
    failures: int
    within: float
    out_for: float
    most: float


class Standing(Struct, eq=False):
    """Of one server.

    Attributes:
        reason: what was wrong with it last, for the log and for the error while no server is up.
        is_up: it gets requests: no checks and no requests have taken it out.
        is_tried: a request is trying it; at most one does.
    """

    reason: str = ""
    is_up: bool = True
    is_tried: bool = False
    _is_healthy: bool = True
    _checks: int = 0  # in a row, with the result that is not the present one
    _failures: deque[float] = field(default_factory=deque)  # in a row, when each was
    _out_until: float | None = None

    def _set(self, *, is_healthy: bool, out_until: float | None) -> None:
        self._is_healthy, self._out_until = is_healthy, out_until
        self.is_up = is_healthy and out_until is None

    @property
    def is_ejected(self) -> bool:
        return self._out_until is not None

    def may_be_used(self, now: float) -> bool:
        """Whether it is up, or it is time that a request tries it."""
        if self._out_until is None:
            return self._is_healthy
        return self._is_healthy and now >= self._out_until and not self.is_tried

    # -- checks ------------------------------------------------------------------------------------

    def checked(self, rules: Rules, failure: str) -> bool:
        """Note the result of a check; `failure` is empty if it passed. Returns whether that changed anything."""
        if self._is_healthy == (not failure):
            self._checks = 0
            return False
        self._checks += 1
        if self._checks < (rules.fall if failure else rules.rise):
            return False
        self._checks = 0
        self._set(is_healthy=not failure, out_until=self._out_until)
        self.reason = failure
        return True

    # -- requests ----------------------------------------------------------------------------------

    def try_it(self) -> None:
        """A request begins that shows whether it works again; exactly one of the next three follows."""
        self.is_tried = True

    def tried(self, rules: Rules, now: float, failure: str) -> bool:
        """What the request has shown; `failure` is empty if it works again. Returns whether the server is back."""
        self.is_tried = False
        if not failure:
            self._set(is_healthy=True, out_until=None)
            self._checks = 0
            self._failures.clear()
            return True
        self.reason = failure
        if self._out_until is not None:
            self._out_until = now + rules.out_for
        return False

    def not_tried(self) -> None:
        """The request ended without showing anything."""
        self.is_tried = False

    def succeeded(self) -> None:
        """A request got an answer."""
        if self._failures:
            self._failures.clear()

    def failed(self, rules: Rules, now: float, failure: str, all_of_them: Sequence[Standing]) -> bool:
        """A request failed. Returns whether that has ejected the server. `all_of_them`: of the upstream."""
        if not self.is_up:
            return False  # a request that began before
        self.reason = failure
        self._failures.append(now)
        while len(self._failures) > rules.failures:
            self._failures.popleft()
        is_enough = len(self._failures) == rules.failures and now - self._failures[0] <= rules.within
        out = sum(not standing.is_up for standing in all_of_them)
        if not is_enough or out + 1 > most_out(rules, len(all_of_them)):
            return False
        self._failures.clear()
        self._set(is_healthy=self._is_healthy, out_until=now + rules.out_for)
        return True

    def restore(self) -> None:
        """End an ejection early, because it would be one too many."""
        self._set(is_healthy=self._is_healthy, out_until=None)
        self._failures.clear()


def most_out(rules: Rules, count: int) -> int:
    """How many of this number of servers may be out when one of them is ejected."""
    return int(rules.most * count + 1e-9)


def too_many(rules: Rules, all_of_them: Sequence[Standing]) -> list[Standing]:
    """The ejected ones that have to be restored after servers were removed, those next to come back first."""
    ejected = [standing for standing in all_of_them if standing.is_ejected]
    surplus = len(ejected) - most_out(rules, len(all_of_them))
    return sorted(ejected, key=_end)[: max(surplus, 0)]


def _end(standing: Standing) -> float:
    return standing._out_until or 0.0  # noqa: SLF001 - of the class above
