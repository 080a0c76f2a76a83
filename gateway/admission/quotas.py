"""A limit of the configuration made ready to be asked for: its rule, and the key of each subject's own bucket.

Keys are the same in every store: `fgw:{scope}:kind:per:limit:subject`. The braces are a hash tag, so all limits of one
scope (a route, or an API key with limits of its own) are in one slot of a cluster; a request whose limits have
two scopes has two slots. Kind and time stand in the key, so a bucket never holds what another rule has counted.
The subject is a digest: callers choose it, and so neither its length nor what stands in it reaches a store.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple, NewType

from gateway.admission.gcra import Kind, Rule, Standing, request_rule, slot_rule, token_rule
from gateway.config import Limit

PREFIX = "fgw:"
BYTES_PER_TOKEN = 4  # of a question whose tokens nobody has counted yet
_PLAIN = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_LETTERS: dict[Kind, str] = {"requests": "r", "tokens": "t", "concurrent": "c"}


Subject = NewType("Subject", str)


class Ask(NamedTuple):
    """What one request asks of one bucket. In one step every bucket is asked once at most.

    Attributes:
        name: the limit's.
        key: the bucket's.
        rule: the limit as numbers.
        cost: what is spent if it passes.
        is_slot: whether it takes a slot; else it spends of a rate.
    """

    name: str
    key: str
    rule: Rule
    cost: int
    is_slot: bool


class Quota:
    """One limit in one scope, for all its subjects.

    Attributes:
        name: the limit's.
        by: who shares it, as configured; the caller of `ask` names the subject accordingly.
        rule: the limit as numbers.
        amount: requests, tokens or slots, when it is full.
    """

    __slots__ = ("_cost", "_is_slot", "_prefix", "_reserve", "amount", "by", "name", "rule")

    def __init__(self, scope: str, limit: Limit) -> None:
        self.name = limit.name
        self.by = limit.by
        self.rule = _rule(limit)
        rule = f"{_LETTERS[self.rule.kind]}:{self.rule.per}"
        self._prefix = f"{PREFIX}{{{_plain(scope)}}}:{rule}:{_plain(limit.name)}:"
        self.amount = self.rule.amount if self.rule.kind == "tokens" else self.rule.depth // self.rule.need
        self._is_slot = self.rule.kind == "concurrent"
        self._reserve = limit.reserve
        self._cost = None if self.rule.kind == "tokens" else self.rule.need

    def ask(self, subject: Subject, question: int = 0) -> Ask:
        """One request of this subject; its `question` has so many bytes, of which tokens are estimated."""
        cost = self._cost
        if cost is None:
            cost = self.rule.cost(-(-question // BYTES_PER_TOKEN) + self._reserve)
        return Ask(self.name, self._prefix + subject, self.rule, cost, self._is_slot)


def subject(text: str) -> Subject:
    """Who shares a bucket (a caller's full name, an address, nothing for a whole route), fit for a key.

    Made once for each request, used for all its limits.
    """
    return Subject(digest(text))


def digest(*parts: str) -> str:
    """32 letters for any texts; other parts, other letters."""
    found = blake2b(digest_size=16)
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        found.update(b"%d:%b" % (len(content), content))
    return found.hexdigest()


def slots_of(asks: Iterable[Ask]) -> tuple[str, ...]:
    """The keys of those buckets that hold slots."""
    return tuple([ask.key for ask in asks if ask.is_slot])


def standings(asks: Sequence[Ask], used: Sequence[int]) -> list[Standing]:
    """What is left of each, if so much is used."""
    return [ask.rule.standing(level) for ask, level in zip(asks, used, strict=True)]


def _rule(limit: Limit) -> Rule:
    if limit.concurrent is not None:
        return slot_rule(limit.concurrent)
    if limit.per is None:
        raise AssertionError("the configuration has seen to it that a rate has its time")
    if limit.requests is not None:
        return request_rule(limit.requests, limit.per, limit.burst)
    if limit.tokens is None:
        raise AssertionError("the configuration has seen to it that a limit says what it counts")
    return token_rule(limit.tokens, limit.per)


def _plain(text: str) -> str:
    """The text itself where it is harmless in a key, else its digest; no text can look like a digest."""
    return text if _PLAIN.fullmatch(text) else "~" + digest(text)
