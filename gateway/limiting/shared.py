"""Limits counted in a Redis or Valkey, for all processes together: one round trip a step, on the server's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import Any

from gateway.admission.quotas import Ask
from gateway.admission.redis.client import Link, looked_at
from gateway.admission.redis.commands import Command, LimitCommands, numbers_of, step_of
from gateway.admission.redis.outbox import Backlog
from gateway.admission.redis.pipeline import Late
from gateway.admission.store import Patience, Reports, Step, StoreError

TOGETHER = 200  # leases renewed by one command: the server answers nobody else meanwhile


class SharedStore:
    """The same as `MemoryStore`; what nobody waits for is sent in the background."""

    def __init__(self, link: Link, backlog: Backlog, commands: LimitCommands, reports: Reports) -> None:
        self._link = link
        self._backlog = backlog
        self._commands = commands
        self._reports = reports

    @property
    def is_up(self) -> bool:
        """Whether it is asked at all."""
        return self._link.is_up

    async def step(self, asks: Sequence[Ask], lease: str, patience: Patience, late: Late) -> Step:
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

    async def peek(self, asks: Sequence[Ask], patience: Patience) -> list[int]:
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

    async def _answer(self, command: Command, patience: Patience, late: Late | None) -> Any:
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
