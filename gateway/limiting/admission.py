"""What one request was given by its limits; it settles once and gives its slots back once, whoever asks twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.admission.gcra import Standing
from gateway.admission.quotas import Ask, slots_of, standings
from gateway.admission.store import Step

LEAST_RETRY = 1.0  # seconds


class Books(Protocol):
    """Where an admission is kept."""

    def settle(self, admission: Admission, tokens: int) -> None:
        """The run has used so many tokens."""

    def release(self, admission: Admission) -> None:
        """The run has ended."""


class Admission:
    """The answer to one step.

    Attributes:
        asks: what was asked for.
        is_allowed: whether all limits let it pass.
        lease: the id of its slots.
        is_here: whether this process has charged it, in its own memory.
        is_in_store: whether the shared store has charged it.
        has_leases_there: whether the shared store may know its slots.
    """

    __slots__ = (
        "_books",
        "_used",
        "asks",
        "has_leases_there",
        "is_allowed",
        "is_here",
        "is_in_store",
        "is_open",
        "is_settled",
        "lease",
        "slots",
    )

    def __init__(self, books: Books, asks: Sequence[Ask], lease: str, step: Step) -> None:
        self._books = books
        self.asks = asks
        self.lease = lease
        self.slots = slots_of(asks)
        self._used = step.used
        self.is_allowed = step.is_allowed
        self.is_here = True
        self.is_in_store = False
        self.has_leases_there = False
        self.is_settled = not step.is_allowed
        self.is_open = step.is_allowed

    @property
    def standings(self) -> list[Standing]:
        """What is left of each, in the order of `asks`; if refused: as before, since nothing was spent."""
        return standings(self.asks, self._used)

    @property
    def refused(self) -> tuple[str, ...]:
        """Names of the limits that refused."""
        if self.is_allowed:
            return ()
        return tuple(
            ask.name for ask, left in zip(self.asks, self.standings, strict=True) if left.retry_after > 0
        )

    @property
    def retry_after(self) -> float:
        """Seconds until this request would pass, at least 1; 0 if it has passed."""
        if self.is_allowed:
            return 0.0
        return max(LEAST_RETRY, *(left.retry_after for left in self.standings))

    def settle(self, tokens: int) -> None:
        """The run has used so many tokens in truth; what was taken at the start is corrected. Once.

        Who never calls it leaves the reservation spent.
        """
        if not self.is_settled:
            self.is_settled = True
            self._books.settle(self, tokens)

    def release(self) -> None:
        """The run has ended: its slots are free. Once."""
        if self.is_open:
            self.is_open = False
            self._books.release(self)
