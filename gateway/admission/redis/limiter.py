"""The limits of all processes together, in a Redis or Valkey; without it, in this process alone, or nobody passes.

When the store goes away, the runs that are under way count here too; when it is back, it is told of all of them and
of what was settled meanwhile before anybody asks it again. What was let in here alone was charged here alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.admission.gcra import SECOND, Standing
from gateway.admission.limiter import LEASE, Admission, Limiter, differences
from gateway.admission.memory import MemoryStore
from gateway.admission.quotas import Ask, slots_of, standings
from gateway.admission.redis.client import Link, Run, Spawn
from gateway.admission.redis.commands import Command, LimitCommands, Script
from gateway.admission.redis.connection import RedisConnection
from gateway.admission.redis.outbox import Backlog
from gateway.admission.store import NOT_SENT, Patience, Reports, StoreError
from gateway.errors import StoreUnavailable
from gateway.limiting.late import Late
from gateway.limiting.shared import SharedStore


class Sharer(Protocol):
    """Somebody else who keeps something in the same store."""

    async def load(self) -> Command:
        """What each connection begins with."""

    def renewals(self) -> list[Command]:
        """What is to be told to a store that is back."""

    def tick(self, now: float) -> None:
        """Time passes. `now`: monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """How one process shares its limits.

    Attributes:
        name: unique among all processes, ever.
        is_closed: without the store, nobody passes.
        lease: seconds that a slot lasts after its process was last heard of.
        now: microseconds, the time for the store; 0: its own clock.
    """

    name: str
    is_closed: bool = False
    lease: float = LEASE
    now: int = 0


class SharedLimiter(Limiter):
    """The same as `Limiter`; `chance` gives numbers from 0 to 1."""

    def __init__(
        self,
        connection: RedisConnection,
        sharing: Sharing,
        spawn: Spawn,
        reports: Reports,
        chance: Callable[[], float],
    ) -> None:
        lease = int(sharing.lease * SECOND)
        super().__init__(MemoryStore(lease), sharing.name, sharing.lease)
        mine = replace(reports, changed=self._changed)
        self._reports = reports
        self._is_closed = sharing.is_closed
        self.link = Link(connection, spawn, mine, chance)
        self.backlog = Backlog(self.link, mine)
        self._script = Script("limits.lua")
        self._commands = LimitCommands(self._script, lease, sharing.now)
        self._store = SharedStore(self.link, self.backlog, self._commands, reports)
        self._others: list[Sharer] = []

    def also(self, sharer: Sharer) -> None:
        """Let somebody else use the same connection; before `start`."""
        self._others.append(sharer)

    async def start(self) -> None:
        """Connect; a store that does not answer is no error."""
        opening = [await self._script.load(), *[await other.load() for other in self._others]]
        await self.link.start([*opening, self._commands.probe(self._name)], self._catch_up)

    async def close(self) -> None:
        """Tell the store what is still on its way, for as long as one call may take, and close."""
        await self.backlog.flush()
        await self.link.close()

    async def admit(self, asks: Sequence[Ask], patience: Patience | None = None) -> Admission:
        """As `Limiter.admit`, in one round trip."""
        lease = self._next_lease()
        if not asks:
            return self._admit_here(asks, lease)
        late = Late(self._store, asks, lease)
        try:
            step = await self._store.step(asks, lease, patience or Patience(), late)
        except StoreError as error:
            return self._admit_without(late, is_unknown=error.kind not in NOT_SENT)
        admission = Admission(self, asks, lease, step)
        admission.is_here = False
        admission.is_in_store = admission.has_leases_there = step.is_allowed
        return self._admitted(admission)

    async def peek(self, asks: Sequence[Ask], patience: Patience | None = None) -> list[Standing]:
        """As `Limiter.peek`, in one round trip."""
        if not asks:
            return []
        try:
            return standings(asks, await self._store.peek(asks, patience or Patience()))
        except StoreError:
            if self._is_closed:
                raise _unavailable() from None
            return self._peek_here(asks)

    def settle(self, admission: Admission, tokens: int) -> None:
        """Correct the charge where it was made; what was charged here alone is told to the store if it is there."""
        if admission.is_here:
            super().settle(admission, tokens)
        if not admission.is_in_store and not self._store.is_up:
            return
        reserved = (
            admission.asks if admission.is_in_store else [ask._replace(cost=0) for ask in admission.asks]
        )
        if due := differences(reserved, tokens):
            self._store.settle(admission.lease, due)

    def release(self, admission: Admission) -> None:
        """Free the slots wherever they are known."""
        super().release(admission)
        if admission.slots and admission.has_leases_there:
            self._store.release(admission.slots, admission.lease)

    def tick(self, now: float) -> None:
        """As `Limiter.tick`; also tries again what failed."""
        super().tick(now)
        self.link.tick(now)
        self.backlog.tick()
        for other in self._others:
            other.tick(now)

    def _admit_without(self, late: Late, *, is_unknown: bool) -> Admission:
        """Decide without the store; `is_unknown`: it may have done the step, or may do it yet."""
        if not self._is_closed:
            if self._store.is_up:
                super()._renew()  # it has not been given up yet: what runs is known there only
            admission = self._admit_here(late.asks, late.lease)
            if admission.is_allowed:
                admission.has_leases_there = is_unknown
                late.admission = admission
                return admission
        if is_unknown and (slots := slots_of(late.asks)):
            self._store.release(slots, late.lease)
        if self._is_closed:
            raise _unavailable()
        return admission

    def _renew(self) -> None:
        if self._store.is_up:
            self._store.renew(self._told_leases())
        else:
            super()._renew()

    def _told_leases(self) -> list[tuple[str, str]]:
        """All leases, on their way to the store."""
        for admission in self._holding.values():
            admission.has_leases_there = True
        return self._leases()

    def _changed(self, is_up: bool, why: str) -> None:  # noqa: FBT001 - as the link tells it
        if is_up:
            self._renew_at = 0.0  # for those who came while it caught up
        else:
            super()._renew()
        self._reports.changed(is_up, why)

    async def _catch_up(self, run: Run) -> None:
        renewals = self._store.renewals(self._told_leases())
        for other in self._others:
            renewals += other.renewals()
        await run(renewals)
        await self.backlog.catch_up(run)


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable(
        "The limits cannot be checked at the moment; try again soon.", headers={"Retry-After": "1"}
    )
