"""The arithmetic of limits, in whole microseconds: what is used, what is left, who may pass and when (pure).

A bucket is one number, `used`: the microseconds of refill that it lacks. It falls by one each microsecond and ends
at 0, full. `60 requests per minute` are 60 steps of one second; `200,000 tokens per day` are a day, of which a token
takes 0.432 s. Every rounding is against the caller, so never more than the limit passes. The scripts of the shared
store add and compare the same whole numbers (far below 2^53), so they decide the same. For slots `used` is a count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

SECOND = 1_000_000  # microseconds
MOST = 2**52  # of anything that is used: 142 years, exact in a Lua number with as much again on top
SLOT_RETRY = 1.0  # seconds: nobody knows when a run ends

Kind = Literal["requests", "tokens", "concurrent"]


class LimitStatus(NamedTuple):
    """What is left of one limit.

    Attributes:
        remaining: whole requests, tokens or slots; never below 0, also in debt.
        reset: seconds until there is one more; None for slots. It is `t` of the IETF draft (11, 4.1.2): "the time
            within which the client can use no more than the available quota". GCRA refills evenly, so this ends
            with the next unit, not when all is full; and so `Retry-After` is never below it.
        retry_after: seconds until the limit lets one more pass; 0: now.
        full: seconds until nothing is used any more; None for slots.
    """

    remaining: int
    reset: float | None
    retry_after: float
    full: float | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit as numbers: `amount` units are refilled in `per`, `depth` holds all, `need` must be free to pass.

    A request passes if `used + need <= depth`; then its cost is added, whatever it is: the cost of tokens may be
    more than was left, and the rest is debt.
    """

    kind: Kind
    depth: int
    amount: int
    per: int
    need: int

    def cost(self, units: int) -> int:
        """What so many units use: microseconds of refill (of slots: slots)."""
        return min(MOST, -(-units * self.per // self.amount))

    def standing(self, used: int) -> LimitStatus:
        """What is left when so much is used."""
        free = self.depth - used
        if self.kind == "concurrent":
            return LimitStatus(max(0, free), None, 0.0 if free > 0 else SLOT_RETRY, None)
        remaining = free * self.amount // self.per if free > 0 else 0
        following = -(-(remaining + 1) * self.per // self.amount) - free
        wait = self.need - free if free < self.need else 0
        return LimitStatus(remaining, following / SECOND, wait / SECOND, used / SECOND)


def request_rule(amount: int, per: float, burst: int | None = None) -> Rule:
    """So many requests `per` seconds, evenly; `burst` of them at once (not given: all).

    Any time of `per` seconds admits at most `burst + amount`. A request takes a whole number of microseconds, so
    above a million a second the limit is a million a second.
    """
    step = -(-_microseconds(per) // amount)
    return Rule("requests", min(MOST, (burst or amount) * step), 1, step, step)


def token_rule(amount: int, per: float) -> Rule:
    """So many tokens `per` seconds, evenly. A run passes while one whole token is left; what it takes may be more."""
    whole = min(MOST, _microseconds(per))
    return Rule("tokens", whole, amount, whole, -(-whole // amount))


def slot_rule(slots: int) -> Rule:
    """So many runs at once."""
    return Rule("concurrent", slots, 1, 1, 1)


def drained(used: int, since: int, now: int) -> int:
    """What is still used now of what was used then (both times in microseconds).

    A clock that stepped back drains nothing, and adds nothing; whoever looks then keeps `now` as the new time.
    """
    return used if now < since else max(0, used - (now - since))


def changed(used: int, difference: int) -> int:
    """What is used after a settlement: never less than nothing, so a bucket is never above full."""
    return min(MOST, max(0, used + difference))


def _microseconds(seconds: float) -> int:
    return max(1, round(seconds * SECOND))
