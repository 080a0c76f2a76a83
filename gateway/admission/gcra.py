"""The arithmetic of limits (GCRA), in whole microseconds (pure).

A bucket is one number, `used`: the microseconds of refill that it lacks. It falls by one each microsecond, down to 0
(full). `60 requests per minute` are 60 intervals of one second; `200,000 tokens per day` are one day, of which a token
takes 0.432 s. For concurrency limits `used` is a count of slots.

Every rounding is against the caller, so a limit is never exceeded. `limits.lua` adds and compares the same whole
numbers (far below 2^53, exact in Lua), so both stores decide the same.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from msgspec import Struct

SECOND = 1_000_000  # microseconds
MAX_USED = 2**52  # 142 years; exact in a Lua number, also after as much again is added
SLOT_RETRY = 1.0  # seconds; when a run will end is unknown

LimitKind = Literal["requests", "tokens", "concurrent"]


class Correction(NamedTuple):
    """What a settlement adds to a bucket, which may be negative, and the most that is then used of it."""

    difference: int
    most: int = MAX_USED


class LimitStatus(NamedTuple):
    """What is left of one limit.

    Attributes:
        remaining: whole requests, tokens or slots; 0 while in debt.
        reset: seconds until `remaining` grows by one; None for slots. It is `t` of the IETF draft (11, 4.1.2): "the
            time within which the client can use no more than the available quota". GCRA refills evenly, so this ends
            with the next unit, not when the bucket is full. `Retry-After` is never below it.
        retry_after: seconds until the limit admits one more; 0: now.
    """

    remaining: int
    reset: float | None
    retry_after: float


class Rule(Struct, frozen=True):
    """One limit as numbers: `amount` units refill in `per`; `depth` is a full bucket; `need` must be free to pass.

    A request passes if `used + need <= depth`. Its cost is added afterwards and may exceed what was free (tokens): the
    excess is debt.
    """

    kind: LimitKind
    depth: int
    amount: int
    per: int
    need: int

    def cost(self, units: int) -> int:
        """Microseconds of refill that `units` use (of slots: slots)."""
        return min(MAX_USED, -(-units * self.per // self.amount))

    @property
    def most_used(self) -> int:
        """Of tokens: the debt ends within one window, whatever a run has reported."""
        return min(MAX_USED, 2 * self.depth - self.need) if self.kind == "tokens" else MAX_USED

    def status(self, used: int) -> LimitStatus:
        free = self.depth - used
        if self.kind == "concurrent":
            return LimitStatus(max(0, free), None, 0.0 if free > 0 else SLOT_RETRY)
        remaining = free * self.amount // self.per if free > 0 else 0
        following = -(-(remaining + 1) * self.per // self.amount) - free
        wait = self.need - free if free < self.need else 0
        return LimitStatus(remaining, following / SECOND, wait / SECOND)


def request_rule(amount: int, per: float, burst: int | None = None) -> Rule:
    """`amount` requests in `per` seconds, evenly; up to `burst` of them at once (default: all).

    Any window of `per` seconds admits at most `burst + amount`. A request takes a whole number of microseconds, so
    a limit above a million per second acts as a million per second.
    """
    interval = -(-_microseconds(per) // amount)
    return Rule("requests", min(MAX_USED, (burst or amount) * interval), 1, interval, interval)


def token_rule(amount: int, per: float) -> Rule:
    """`amount` tokens in `per` seconds, evenly. A run passes while one whole token is left, and may use more."""
    whole = min(MAX_USED, _microseconds(per))
    return Rule("tokens", whole, amount, whole, -(-whole // amount))


def slot_rule(slots: int) -> Rule:
    """At most `slots` runs at once."""
    return Rule("concurrent", slots, 1, 1, 1)


def drained(used: int, since: int, now: int) -> int:
    """What is still used at `now` of what was used at `since` (microseconds).

    A clock that stepped back drains nothing and adds nothing; the caller must then keep `now` as the new time.
    """
    return used if now < since else max(0, used - (now - since))


def adjusted(used: int, correction: Correction) -> int:
    """What is used after a settlement, at least 0."""
    return min(correction.most, max(0, used + correction.difference))


def _microseconds(seconds: float) -> int:
    return max(1, round(seconds * SECOND))
