"""The limits of one process: a question before a request goes on, what it was given, and the runs that hold slots.

Here they are counted in this process alone; `shared_limiter` is the same with a store that all processes share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.admission.gcra import LimitStatus
from gateway.admission.memory import MemoryStore
from gateway.admission.quotas import Charge, slots_of, standings
from gateway.admission.store import Decision, StoreBudget

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

    def __init__(self, books: Books, asks: Sequence[Charge], lease: str, step: Decision) -> None:
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
    def standings(self) -> list[LimitStatus]:
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
        """The run has used so many tokens in truth; what was taken at the start is corrected, once.

        Who never calls it leaves the reservation spent.
        """
        if not self.is_settled:
            self.is_settled = True
            self._books.settle(self, tokens)

    def release(self) -> None:
        """The run has ended: its slots are free, once."""
        if self.is_open:
            self.is_open = False
            self._books.release(self)


LEASE = 30.0  # seconds that a slot, or a turn, lasts after the process that holds it was last heard of
RENEWALS = 3  # in the time of one lease


class Limiter:
    """One for each process. Only `start`, `close`, `admit` and `peek` may wait, and here not even those."""

    def __init__(self, local: MemoryStore, name: str, lease: float = LEASE) -> None:
        """`name`: unique among all processes, ever. `lease`: seconds, the same as the store's."""
        self._local = local
        self._name = name
        self._every = lease / RENEWALS
        self._renew_at = 0.0
        self._count = 0
        self._holding: dict[str, Admission] = {}

    def __len__(self) -> int:
        """How many admitted runs hold slots."""
        return len(self._holding)

    async def start(self) -> None:
        """Begin; a store that does not answer is no error."""

    async def close(self) -> None:
        """End. Admissions may still be settled and released."""

    async def admit(self, asks: Sequence[Charge], patience: StoreBudget | None = None) -> Admission:  # noqa: ARG002 - shared
        """Charge all these limits in one step: all are spent, charged and taken, or nothing is.

        Args:
            asks: none of one bucket twice.
            patience: of the request; the same for all its steps.

        Raises:
            StoreUnavailable: the store does not answer, and then nobody passes.
        """
        return self._admit_here(asks, self._next_lease())

    async def peek(self, asks: Sequence[Charge], patience: StoreBudget | None = None) -> list[LimitStatus]:  # noqa: ARG002 - shared
        """What is left of each; spends nothing.

        Raises:
            StoreUnavailable: as above.
        """
        return self._peek_here(asks)

    def settle(self, admission: Admission, tokens: int) -> None:
        """Correct the charge of a run; called by `Admission.settle`."""
        self._local.settle(differences(admission.asks, tokens))

    def release(self, admission: Admission) -> None:
        """Free the slots of a run; called by `Admission.release`."""
        if admission.slots:
            self._holding.pop(admission.lease, None)
            self._local.release(admission.slots, admission.lease)

    def tick(self, now: float) -> None:
        """Renew leases in time and forget what is idle. `now`: monotonic seconds."""
        self._local.sweep()
        if now >= self._renew_at:
            self._renew_at = now + self._every
            self._renew()

    def _renew(self) -> None:
        self._local.renew(self._leases())

    def _leases(self) -> list[tuple[str, str]]:
        return [(key, lease) for lease, admission in self._holding.items() for key in admission.slots]

    def _admit_here(self, asks: Sequence[Charge], lease: str) -> Admission:
        step = self._local.step(asks, lease)
        return self._admitted(Admission(self, asks, lease, step))

    def _admitted(self, admission: Admission) -> Admission:
        if admission.is_allowed and admission.slots:
            self._holding[admission.lease] = admission
        return admission

    def _peek_here(self, asks: Sequence[Charge]) -> list[LimitStatus]:
        return standings(asks, self._local.peek(asks))

    def _next_lease(self) -> str:
        self._count += 1
        return f"{self._name}:{self._count}"


def differences(asks: Sequence[Charge], tokens: int) -> dict[str, int]:
    """What is still to be charged to each bucket of tokens, if a run has used so many in truth."""
    found = {ask.key: ask.rule.cost(tokens) - ask.cost for ask in asks if ask.rule.kind == "tokens"}
    return {key: difference for key, difference in found.items() if difference}
