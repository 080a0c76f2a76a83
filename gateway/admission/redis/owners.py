"""Owners of ids, known to every process of the store, and to this one while the store is away."""

from __future__ import annotations

from time import monotonic
from typing import Any

from gateway.admission.owners import KEPT_FOR, Owners
from gateway.admission.quotas import PREFIX, digest
from gateway.admission.redis.client import MultiplexedClient
from gateway.admission.redis.commands import Command
from gateway.admission.redis.outbox import Outbox
from gateway.admission.store import StoreBudget, StoreError, StoreListener
from gateway.errors import StoreUnavailable

LONGEST_OWNER = 256  # bytes; ours are shorter


class SharedOwners(Owners):
    """Same contract as `Owners`, across processes."""

    def __init__(self, client: MultiplexedClient, outbox: Outbox, listener: StoreListener) -> None:
        super().__init__()
        self._client = client
        self._outbox = outbox
        self._listener = listener

    async def remember(self, name: str, owner: str, budget: StoreBudget) -> None:
        """As `Owners.remember`; returns when the store has it, or after the budget. Then it is sent again later."""
        await super().remember(name, owner, budget)
        command = Command(("SET", _key(name), owner, "PX", int(KEPT_FOR * 1000)))
        try:
            await self._call(command, budget)
        except StoreError:
            self._outbox.send(command)

    async def find(self, name: str, budget: StoreBudget) -> str | None:
        known = await super().find(name, budget)
        if known is not None:
            return known
        try:
            reply = await self._call(Command(("GET", _key(name))), budget)
        except StoreError:
            raise StoreUnavailable(
                "It cannot be looked up at the moment to whom this id was given; try again soon.",
                headers={"Retry-After": "1"},
            ) from None
        if not isinstance(reply, bytes) or len(reply) > LONGEST_OWNER:
            return None
        return reply.decode(errors="replace")

    async def _call(self, command: Command, budget: StoreBudget) -> Any:
        try:
            call = self._client.call(command, budget.left)
        except StoreError as error:
            self._listener.failed(error.kind)
            raise
        began = monotonic()
        try:
            reply = await call
        except StoreError:
            budget.exhaust()
            raise
        budget.spend(monotonic() - began)
        return reply


def _key(name: str) -> str:
    return f"{PREFIX}{{feedback}}:{digest(name)}"
