"""Limits shared by all processes, in a Redis or Valkey; while it is away, limits of this process, or no admission.

When the store goes away, running requests are counted locally as well. When it is back, it is given all running
requests and all pending settlements before it is used again. A request admitted locally is charged locally only.

A lease that the store has lost while its run goes on (this process stood still for longer than a lease, or the store
lost data) is taken again, even above the limit: the run uses Flowise in any case, and a limit that did not count it
would let still more in. What was lost is reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gateway.admission.gcra import SECOND, Correction, LimitStatus
from gateway.admission.limiter import LEASE, Admission, Limiter, corrections
from gateway.admission.memory import MemoryStore
from gateway.admission.quotas import Charge, slot_keys, statuses
from gateway.admission.redis.client import MultiplexedClient, RunCommands
from gateway.admission.redis.commands import (
    Command,
    ErrorReply,
    LimitCommands,
    NoScript,
    Script,
    parse_decision,
    parse_numbers,
)
from gateway.admission.redis.connection import RedisConnection
from gateway.admission.redis.key_repair import KeyRepair
from gateway.admission.redis.locks import RedisConversationLocks
from gateway.admission.redis.outbox import Outbox
from gateway.admission.redis.pipeline import OnLateReply
from gateway.admission.store import (
    NOT_APPLIED,
    Decision,
    Losses,
    Spawn,
    StoreBudget,
    StoreError,
    StoreListener,
    StoreUse,
)
from gateway.errors import StoreUnavailable

RENEWAL_BATCH = 200  # leases per command: the server serves no other client meanwhile

Leases = list[tuple[str, str]]  # buckets and lease ids
T = TypeVar("T")


class SharedSettings(Struct, frozen=True):
    """How one process uses the shared store.

    Attributes:
        name: unique among all processes, ever.
        is_closed: without the store, no request passes.
        lease: seconds that a slot lasts after its process was last heard of.
        now: microseconds, the time for the store; 0: its own clock.
    """

    name: str
    is_closed: bool = False
    lease: float = LEASE
    now: int = 0


class SharedLimiter(Limiter):
    """Same contract as `Limiter`, across processes. `random` returns numbers from 0 to 1."""

    def __init__(
        self,
        connection: RedisConnection,
        settings: SharedSettings,
        spawn: Spawn,
        listener: StoreListener,
        random: Callable[[], float],
    ) -> None:
        lease = int(settings.lease * SECOND)
        super().__init__(MemoryStore(lease), settings.name, settings.lease)
        wrapped = replace(listener, changed=self._on_change)
        self._listener = listener
        self._is_closed = settings.is_closed
        self._script = Script("limits.lua")
        self._commands = LimitCommands(self._script, lease, settings.now)
        repair = KeyRepair(self._commands.replace, listener)
        self.client = MultiplexedClient(connection, spawn, wrapped, random, repair)
        self.outbox = Outbox(self.client, wrapped)
        self._store = SharedStore(self.client, self.outbox, self._commands, listener)
        self._attached: list[RedisConversationLocks] = []
        self.losses = Losses()

    def attach(self, locks: RedisConversationLocks) -> None:
        """Let these locks use the same connection, script loading, timer and report; before `start`."""
        locks.report_to(self.losses, self._listener.conversation_lost)
        self._attached.append(locks)

    @property
    def is_store_up(self) -> bool:
        return self._store.is_up

    def use(self, store: StoreUse) -> None:
        self._is_closed = store.is_closed
        self.client.use(store.url, store.ca)

    async def start(self) -> None:
        handshake = [await self._script.load(), *[await locks.load() for locks in self._attached]]
        await self.client.start([*handshake, self._commands.probe(self._name)], self._catch_up)

    async def close(self) -> None:
        """Flush what was sent, for as long as one call may take, and disconnect."""
        await self.outbox.flush()
        await self.client.close()

    async def admit(self, charges: Sequence[Charge], budget: StoreBudget | None = None) -> Admission:
        """As `Limiter.admit`, in one round trip."""
        self._renew_if_due(self._local.seconds)
        lease = self._next_lease()
        if not charges:
            return self._admit_locally(charges, lease)
        late_reply = LateReply(self._store, charges, lease)
        try:
            decision = await self._store.apply(charges, lease, budget or StoreBudget(), late_reply)
        except StoreError as error:
            return self._admit_without_store(late_reply, may_be_applied=error.kind not in NOT_APPLIED)
        admission = Admission(self, charges, lease, decision)
        admission.is_local = False
        admission.is_in_store = admission.has_store_leases = admission.is_leased = decision.is_allowed
        return self._track(admission)

    async def peek(self, charges: Sequence[Charge], budget: StoreBudget | None = None) -> list[LimitStatus]:
        """As `Limiter.peek`, in one round trip."""
        if not charges:
            return []
        try:
            return statuses(charges, await self._store.peek(charges, budget or StoreBudget()))
        except StoreError:
            if self._is_closed:
                raise _unavailable() from None
            return self._peek_locally(charges)

    def settle(self, admission: Admission, tokens: int) -> None:
        """Correct the charge where it was made; a charge made locally is added to the store too, if that is up."""
        if admission.is_local:
            super().settle(admission, tokens)
        if not admission.is_in_store and not self._store.is_up:
            return
        charged = admission.charges
        if not admission.is_in_store:
            charged = [charge._replace(cost=0) for charge in charged]
        if due := corrections(charged, tokens):
            self._store.settle(admission.lease, due)

    def release(self, admission: Admission) -> None:
        """Free the slots locally and in the store."""
        super().release(admission)
        if admission.slots and admission.has_store_leases:
            self._store.release(admission.slots, admission.lease)

    def tick(self, now: float) -> None:
        super().tick(now)
        self.client.tick(now)
        self.outbox.tick()
        for locks in self._attached:
            locks.tick(now)
        if self.losses != Losses():
            self._listener.lost(replace(self.losses))
            self.losses.slots = self.losses.locks = self.losses.conversations = 0

    def _admit_without_store(self, late_reply: LateReply, *, may_be_applied: bool) -> Admission:
        """Decide locally. `may_be_applied`: the store may have made the charges, or may make them yet."""
        if not self._is_closed:
            if self._store.is_up:
                super()._renew()  # still connected: the slots of running requests are only in the store
            admission = self._admit_locally(late_reply.charges, late_reply.lease)
            if admission.is_allowed:
                admission.has_store_leases = may_be_applied
                late_reply.admission = admission
                return admission
        if may_be_applied and (slots := slot_keys(late_reply.charges)):
            self._store.release(slots, late_reply.lease)
        if self._is_closed:
            raise _unavailable()
        return admission

    def _renew(self) -> None:
        if self._store.is_up:
            for batch in self._leases_for_store():
                self._store.renew(batch, self._on_renewal(batch))
        else:
            super()._renew()

    def _leases_for_store(self) -> list[Leases]:
        """All leases, in batches, which the store may know from now on."""
        for admission in self._holding.values():
            admission.has_store_leases = True
        every = self._leases()
        return [every[at : at + RENEWAL_BATCH] for at in range(0, len(every), RENEWAL_BATCH)]

    def _on_renewal(self, batch: Leases) -> Callable[[bytes], None]:
        """For the reply to the renewal of this batch."""
        known = [lease in self._holding and self._holding[lease].is_leased for _, lease in batch]

        def on_reply(reply: bytes) -> None:
            self.losses.slots += sum(known[place - 1] for place in parse_numbers(reply))
            for _, lease in batch:
                if lease in self._holding:
                    self._holding[lease].is_leased = True

        return on_reply

    def _on_change(self, is_up: bool, why: str) -> None:  # noqa: FBT001 - as `StoreListener` has it
        if is_up:
            self._renew_at = 0.0  # for runs admitted during the catch-up
        else:
            super()._renew()
        self._listener.changed(is_up, why)

    async def _catch_up(self, run: RunCommands) -> None:
        renewals = [
            (self._commands.renew(batch), self._on_renewal(batch)) for batch in self._leases_for_store()
        ]
        for locks in self._attached:
            renewals += locks.renewals()
        replies = await run([command for command, _ in renewals])
        for (_, on_reply), reply in zip(renewals, replies, strict=True):
            if not isinstance(reply, ErrorReply | NoScript):
                on_reply(reply)
        await self.outbox.catch_up(run)


class SharedStore:
    """Same operations as `MemoryStore`; those without a result are sent in the background."""

    def __init__(
        self, client: MultiplexedClient, outbox: Outbox, commands: LimitCommands, listener: StoreListener
    ) -> None:
        self._client = client
        self._outbox = outbox
        self._commands = commands
        self._listener = listener

    @property
    def is_up(self) -> bool:
        return self._client.is_up

    async def apply(
        self, charges: Sequence[Charge], lease: str, budget: StoreBudget, on_late_reply: OnLateReply
    ) -> Decision:
        """Make all charges, or none if one limit refuses.

        Args:
            charges: at least one.
            lease: the id of the run, unique in all processes.
            budget: how long this request may wait.
            on_late_reply: gets the reply if it comes after the request has stopped waiting.

        Raises:
            StoreError: no reply in time; the charges may have been made.
        """
        reply = await self._call(self._commands.admit(charges, lease), budget, on_late_reply)
        return self._understood(partial(parse_decision, reply, len(charges)))

    async def peek(self, charges: Sequence[Charge], budget: StoreBudget) -> list[int]:
        """What is used of each bucket; charges nothing.

        Raises:
            StoreError: no reply in time.
        """
        reply = await self._call(self._commands.peek(charges), budget, None)
        return self._understood(partial(parse_numbers, reply, len(charges)))

    def _understood(self, parse: Callable[[], T]) -> T:
        """What a reply says.

        Raises:
            StoreError: nothing that a store of ours would say; it counts as away.
        """
        try:
            return parse()
        except StoreError as error:
            self._listener.failed(error.kind)
            self._client.give_up(error)
            raise

    def settle(self, lease: str, corrections: Mapping[str, Correction]) -> None:
        """Correct each bucket; once per lease."""
        self._outbox.send(self._commands.settle(lease, corrections))

    def release(self, keys: Sequence[str], lease: str) -> None:
        self._outbox.send(self._commands.release(keys, lease))

    def renew(self, leases: Leases, on_reply: Callable[[bytes], None]) -> None:
        """Renew up to `RENEWAL_BATCH` leases."""
        self._client.send(self._commands.renew(leases), on_reply)

    async def _call(self, command: Command, budget: StoreBudget, on_late_reply: OnLateReply | None) -> Any:
        try:
            call = self._client.call(command, budget.left, on_late_reply)
        except StoreError as error:
            self._listener.failed(error.kind)
            raise
        began = monotonic()
        try:
            reply = await call
        except StoreError:
            budget.exhaust()
            raise
        except asyncio.CancelledError:
            if (
                on_late_reply is not None
                and call.done()
                and not call.cancelled()
                and call.exception() is None
            ):
                on_late_reply(call.result())  # the reply came in the same loop pass as the cancellation
            raise
        seconds = monotonic() - began
        budget.spend(seconds)
        self._listener.took(seconds)
        return reply


class LateReply:
    """Compensates for a charge that the store applied after the caller had timed out.

    Attributes:
        admission: of the run that was admitted without the store; None: the request was refused, or is gone.
    """

    def __init__(self, store: SharedStore, charges: Sequence[Charge], lease: str) -> None:
        self._store = store
        self.charges = charges
        self.lease = lease
        self.admission: Admission | None = None

    def __call__(self, reply: Any) -> None:
        if not parse_decision(reply, len(self.charges)).is_allowed:
            return
        if self.admission is None:
            self._refund("requests", "tokens")
            if slots := slot_keys(self.charges):
                self._store.release(slots, self.lease)
        elif self.admission.is_settled:
            self._refund("tokens")  # the settlement charged the full count, without this reservation
        else:
            self.admission.is_in_store = self.admission.is_leased = True

    def _refund(self, *kinds: str) -> None:
        if refunds := {
            charge.key: Correction(-charge.cost) for charge in self.charges if charge.rule.kind in kinds
        }:
            self._store.settle(f"{self.lease}:late", refunds)


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable(
        "The limits cannot be checked at the moment; try again soon.", headers={"Retry-After": "1"}
    )
