"""The limits of all processes together, in a Redis or Valkey; without it, in this process alone, or nobody passes.

When the store goes away, the runs that are under way count here too; when it is back, it is told of all of them and
of what was settled meanwhile before anybody asks it again. What was let in here alone was charged here alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Protocol

from gateway.admission.gcra import SECOND, LimitStatus
from gateway.admission.limiter import LEASE, Admission, Limiter, differences
from gateway.admission.memory import MemoryStore
from gateway.admission.quotas import Charge, slots_of, standings
from gateway.admission.redis.client import MultiplexedClient, Run, Spawn, looked_at
from gateway.admission.redis.commands import Command, LimitCommands, Script, numbers_of, step_of
from gateway.admission.redis.connection import RedisConnection
from gateway.admission.redis.outbox import Outbox
from gateway.admission.redis.pipeline import OnLateReply
from gateway.admission.store import NOT_SENT, Decision, StoreBudget, StoreError, StoreListener
from gateway.errors import StoreUnavailable

TOGETHER = 200  # leases renewed by one command: the server answers nobody else meanwhile


class SharedStore:
    """The same as `MemoryStore`; what nobody waits for is sent in the background."""

    def __init__(
        self, link: MultiplexedClient, backlog: Outbox, commands: LimitCommands, reports: StoreListener
    ) -> None:
        self._link = link
        self._backlog = backlog
        self._commands = commands
        self._reports = reports

    @property
    def is_up(self) -> bool:
        """Whether it is asked at all."""
        return self._link.is_up

    async def step(
        self, asks: Sequence[Charge], lease: str, patience: StoreBudget, late: OnLateReply
    ) -> Decision:
        """Spend, charge and take everything that is asked for, or, if one limit refuses, nothing.

        Args:
            asks: at least one.
            lease: the id of the run, unique in all processes.
            patience: how long this request may wait.
            late: told of the step if it was done after all, when nobody waits for it any more.

        Raises:
            StoreError: not known to be done.
        """
        return step_of(await self._answer(self._commands.admit(asks, lease), patience, late))

    async def peek(self, asks: Sequence[Charge], patience: StoreBudget) -> list[int]:
        """What is used of each; spends nothing.

        Raises:
            StoreError: no answer.
        """
        return numbers_of(await self._answer(self._commands.peek(asks), patience, None))

    def settle(self, lease: str, differences: Mapping[str, int]) -> None:
        """Charge so much more to each of these buckets, or give it back; once for each lease."""
        self._backlog.send(self._commands.settle(lease, differences))

    def release(self, keys: Sequence[str], lease: str) -> None:
        """This run has ended, or never was."""
        self._backlog.send(self._commands.release(keys, lease))

    def renew(self, leases: Iterable[tuple[str, str]]) -> None:
        """These runs go on: bucket and lease of each. Not repeated if it fails: the next renewal is soon."""
        for command in self.renewals(leases):
            try:
                self._link.call(command).add_done_callback(looked_at)
            except StoreError:
                return

    def renewals(self, leases: Iterable[tuple[str, str]]) -> list[Command]:
        """The commands of a renewal."""
        all_of_them = list(leases)
        starts = range(0, len(all_of_them), TOGETHER)
        return [self._commands.renew(all_of_them[at : at + TOGETHER]) for at in starts]

    async def _answer(self, command: Command, patience: StoreBudget, late: OnLateReply | None) -> Any:
        try:
            call = self._link.call(command, patience.left, late)
        except StoreError as error:
            self._reports.failed(error.kind)
            raise
        began = monotonic()
        try:
            answer = await call
        except StoreError:
            patience.end()
            raise
        except asyncio.CancelledError:
            if late is not None and call.done() and not call.cancelled() and call.exception() is None:
                late(call.result())  # it was done, and nobody is there any more to use it
            raise
        seconds = monotonic() - began
        patience.waited(seconds)
        self._reports.took(seconds)
        return answer


class LateReply:
    """Takes the answer to one step, and gives back what nobody uses.

    Attributes:
        admission: of the run that was let in without the store; None: the request was refused, or is gone.
    """

    def __init__(self, store: SharedStore, asks: Sequence[Charge], lease: str) -> None:
        self._store = store
        self.asks = asks
        self.lease = lease
        self.admission: Admission | None = None

    def __call__(self, answer: Any) -> None:
        """The store has done it, or refused."""
        if not step_of(answer).is_allowed:
            return
        if self.admission is None:
            self._give_back("requests", "tokens")
            if slots := slots_of(self.asks):
                self._store.release(slots, self.lease)
        elif self.admission.is_settled:
            self._give_back("tokens")  # the true count was charged without knowing of the reservation
        else:
            self.admission.is_in_store = True

    def _give_back(self, *kinds: str) -> None:
        if back := {ask.key: -ask.cost for ask in self.asks if ask.rule.kind in kinds}:
            self._store.settle(f"{self.lease}:late", back)


class RedisTenant(Protocol):
    """Somebody else who keeps something in the same store."""

    async def load(self) -> Command:
        """What each connection begins with."""

    def renewals(self) -> list[Command]:
        """What is to be told to a store that is back."""

    def tick(self, now: float) -> None:
        """Time passes. `now`: monotonic seconds."""


@dataclass(frozen=True, slots=True)
class SharedSettings:
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
        sharing: SharedSettings,
        spawn: Spawn,
        reports: StoreListener,
        chance: Callable[[], float],
    ) -> None:
        lease = int(sharing.lease * SECOND)
        super().__init__(MemoryStore(lease), sharing.name, sharing.lease)
        mine = replace(reports, changed=self._changed)
        self._reports = reports
        self._is_closed = sharing.is_closed
        self.link = MultiplexedClient(connection, spawn, mine, chance)
        self.backlog = Outbox(self.link, mine)
        self._script = Script("limits.lua")
        self._commands = LimitCommands(self._script, lease, sharing.now)
        self._store = SharedStore(self.link, self.backlog, self._commands, reports)
        self._others: list[RedisTenant] = []

    def also(self, sharer: RedisTenant) -> None:
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

    async def admit(self, asks: Sequence[Charge], patience: StoreBudget | None = None) -> Admission:
        """As `Limiter.admit`, in one round trip."""
        lease = self._next_lease()
        if not asks:
            return self._admit_here(asks, lease)
        late = LateReply(self._store, asks, lease)
        try:
            step = await self._store.step(asks, lease, patience or StoreBudget(), late)
        except StoreError as error:
            return self._admit_without(late, is_unknown=error.kind not in NOT_SENT)
        admission = Admission(self, asks, lease, step)
        admission.is_here = False
        admission.is_in_store = admission.has_leases_there = step.is_allowed
        return self._admitted(admission)

    async def peek(self, asks: Sequence[Charge], patience: StoreBudget | None = None) -> list[LimitStatus]:
        """As `Limiter.peek`, in one round trip."""
        if not asks:
            return []
        try:
            return standings(asks, await self._store.peek(asks, patience or StoreBudget()))
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

    def _admit_without(self, late: LateReply, *, is_unknown: bool) -> Admission:
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
