"""The limiter of one process: decides before a request goes on, settles its tokens, and keeps the slots of its runs.

`Limiter` counts in this process alone; `redis.limiter.SharedLimiter` counts in a store that all processes share.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.admission.gcra import Correction, LimitStatus
from gateway.admission.memory import MemoryStore
from gateway.admission.quotas import Charge, slot_keys, statuses
from gateway.admission.store import Decision, StoreBudget, StoreUse

LEASE = 30.0  # seconds that a slot or a conversation lock lasts after its process was last heard of
RENEWALS = 3  # in the time of one lease
MIN_RETRY = 1.0  # seconds


class Limiter:
    """One for each process. Only `start`, `close`, `admit` and `peek` may wait, and in this class they never do."""

    def __init__(self, local: MemoryStore, name: str, lease: float = LEASE) -> None:
        """`name`: unique among all processes, ever. `lease`: seconds, the same as the store's."""
        self._local = local
        self._name = name
        self._renew_every = lease / RENEWALS
        self._renew_at = 0.0
        self._count = 0
        self._holding: dict[str, Admission] = {}

    def __len__(self) -> int:
        """The number of admitted runs that hold slots."""
        return len(self._holding)

    @property
    def is_store_up(self) -> bool | None:
        """Whether the shared store answers; None: there is none."""
        return None

    async def start(self) -> None:
        """Connect, if there is a store; one that does not answer is no error."""

    def use(self, store: StoreUse) -> None:
        """Follow a new configuration; what is counted stays."""

    async def close(self) -> None:
        """Disconnect. Admissions may still be settled and released."""

    async def admit(self, charges: Sequence[Charge], budget: StoreBudget | None = None) -> Admission:  # noqa: ARG002 - shared
        """Make all charges at once, or none if one limit refuses.

        Args:
            charges: no two in the same bucket.
            budget: of the request; the same for all its calls.

        Raises:
            StoreUnavailable: the store does not answer, and `when_store_fails` is `closed`.
        """
        self._renew_if_due(self._local.seconds)
        return self._admit_locally(charges, self._next_lease())

    async def peek(self, charges: Sequence[Charge], budget: StoreBudget | None = None) -> list[LimitStatus]:  # noqa: ARG002 - shared
        """What is left of each limit; charges nothing.

        Raises:
            StoreUnavailable: as `admit`.
        """
        return self._peek_locally(charges)

    def settle(self, admission: Admission, tokens: int) -> None:
        """Correct the charge of a run; called by `Admission.settle`."""
        self._local.settle(corrections(admission.charges, tokens))

    def release(self, admission: Admission) -> None:
        """Free the slots of a run; called by `Admission.release`."""
        if admission.slots:
            self._holding.pop(admission.lease, None)
            self._local.release(admission.slots, admission.lease)

    def tick(self, now: float) -> None:
        """Renew leases in time and forget idle buckets. `now`: monotonic seconds."""
        self._local.sweep()
        self._renew_if_due(now)

    def _renew_if_due(self, now: float) -> None:
        """Also before each decision: after a pause of the process, it must not count its own runs as ended."""
        if now >= self._renew_at:
            self._renew_at = now + self._renew_every
            self._renew()

    def _renew(self) -> None:
        self._local.renew(self._leases())

    def _leases(self) -> list[tuple[str, str]]:
        return [(key, lease) for lease, admission in self._holding.items() for key in admission.slots]

    def _admit_locally(self, charges: Sequence[Charge], lease: str) -> Admission:
        return self._track(Admission(self, charges, lease, self._local.apply(charges, lease)))

    def _track(self, admission: Admission) -> Admission:
        if admission.is_allowed and admission.slots:
            self._holding[admission.lease] = admission
        return admission

    def _peek_locally(self, charges: Sequence[Charge]) -> list[LimitStatus]:
        return statuses(charges, self._local.peek(charges))

    def _next_lease(self) -> str:
        self._count += 1
        return f"{self._name}:{self._count}"


class Admission:
    """The result of `Limiter.admit`.

    Attributes:
        charges: what was to be charged.
        is_allowed: whether all limits let it pass.
        lease: the id of its slots.
        slots: the keys of the buckets in which it holds slots.
        is_local: whether it was charged in this process's own memory.
        is_in_store: whether it was charged in the shared store.
        has_store_leases: whether the shared store may know its slots.
        is_leased: whether the shared store has confirmed that it knows them.
    """

    __slots__ = (
        "_limiter",
        "_used",
        "charges",
        "has_store_leases",
        "is_allowed",
        "is_in_store",
        "is_leased",
        "is_local",
        "is_open",
        "is_settled",
        "lease",
        "slots",
    )

    def __init__(self, limiter: Limiter, charges: Sequence[Charge], lease: str, decision: Decision) -> None:
        self._limiter = limiter
        self.charges = charges
        self.lease = lease
        self.slots = slot_keys(charges)
        self._used = decision.used
        self.is_allowed = decision.is_allowed
        self.is_local = True
        self.is_in_store = False
        self.has_store_leases = False
        self.is_leased = False
        self.is_settled = not decision.is_allowed
        self.is_open = decision.is_allowed

    @property
    def statuses(self) -> list[LimitStatus]:
        """What is left of each limit, in the order of `charges`; unchanged if refused, since nothing was charged."""
        return statuses(self.charges, self._used)

    @property
    def refused(self) -> tuple[str, ...]:
        """Names of the limits that refused."""
        if self.is_allowed:
            return ()
        return tuple(
            charge.name
            for charge, status in zip(self.charges, self.statuses, strict=True)
            if status.retry_after > 0
        )

    @property
    def retry_after(self) -> float:
        """Seconds until this request would pass, at least `MIN_RETRY`; 0 if it has passed."""
        if self.is_allowed:
            return 0.0
        return max(MIN_RETRY, *(status.retry_after for status in self.statuses))

    def settle(self, tokens: int) -> None:
        """Correct the tokens charged at the start to the actual count, once. Without it the reservation stays spent.

        More than the reservation is debt, which must refill first; it is never longer than the limit's own time.
        """
        if not self.is_settled:
            self.is_settled = True
            self._limiter.settle(self, tokens)

    def release(self) -> None:
        """Free the slots at the end of the run, once."""
        if self.is_open:
            self.is_open = False
            self._limiter.release(self)


def corrections(charges: Sequence[Charge], tokens: int) -> dict[str, Correction]:
    """By bucket, what remains to be charged if a run has used `tokens`."""
    found = {}
    for charge in charges:
        if charge.rule.kind == "tokens" and (difference := charge.rule.cost(tokens) - charge.cost):
            found[charge.key] = Correction(difference, charge.rule.most_used)
    return found
