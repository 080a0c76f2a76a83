"""What a store answers, how it fails, how long one request may wait for it, and who is told of all that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

STORE_TIME = 0.1  # seconds that one request may wait for the store, over all its steps
LATER_STEP = 0.02  # seconds that each step has at least, as long as none before it has failed

Failure = Literal["timeout", "connection", "auth", "reply", "away", "overflow", "dropped"]
NOT_SENT: tuple[Failure, ...] = ("away", "overflow")  # the store has certainly not done it


class Decision(NamedTuple):
    """What became of one step: all was spent, or nothing. `used`: of each bucket, afterwards."""

    is_allowed: bool
    used: list[int]


class StoreError(Exception):
    """The shared store did not do it, as far as is known. Says why in one word, and nothing that came from it."""

    def __init__(self, kind: Failure) -> None:
        super().__init__(kind)
        self.kind: Failure = kind


class NoScript:
    """The answer of a server that does not know a script by its name."""


class ErrorReply:
    """The answer of a server that would not do it."""


@dataclass(slots=True)
class StoreBudget:
    """The time that one request may still wait for the store, in seconds."""

    left: float = STORE_TIME

    def waited(self, seconds: float) -> None:
        """A step was answered after so long."""
        self.left = max(LATER_STEP, self.left - seconds)

    def end(self) -> None:
        """A step failed: this request does not wait again."""
        self.left = 0.0


@dataclass(frozen=True, slots=True)
class StoreListener:
    """Who is told what happens to the store.

    Attributes:
        failed: of each call that failed, and each step that was not even tried, by its word (`Failure`).
        changed: whether the store is there, once at the start and then each time; and why not, by its word.
        took: of the seconds of each step that was answered.
    """

    failed: Callable[[Failure], None] = lambda _: None
    changed: Callable[[bool, str], None] = lambda _is_up, _why: None
    took: Callable[[float], None] = lambda _: None
