"""Brings a configuration to all workers, or to none.

First every worker prepares: it does all that can fail, and goes on serving what it serves. If all have, all are asked
to commit, which cannot fail; if one has not, or not in time, all abandon what they have prepared. Meanwhile no worker
is started, so that each process has either the configuration before or, prepared or from its start, the one after. A
worker that dies is no obstacle: its replacement starts with what was decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.auth.keys_model import ApiKey
from gateway.config import Config
from gateway.server.ipc import ABANDON, COMMIT, Proposal, numbered
from gateway.server.reload import CannotApplyError
from gateway.server.worker_process import WorkerProcess

PREPARE_WITHIN = 30.0  # seconds; a worker that starts answers once it is ready
COMMIT_WITHIN = 5.0  # seconds; then nothing waits any longer for a worker whose loop stands still


class Rollout:
    """One after the other. `starting`: the lock without which no worker is started."""

    def __init__(self, workers: Sequence[WorkerProcess], starting: asyncio.Lock) -> None:
        self._workers = workers
        self._starting = starting
        self._number = 0

    async def apply(self, config: Config, keys: tuple[ApiKey, ...] | None) -> None:
        """Let all workers serve this. `keys`: of the keys file that it names.

        Raises:
            CannotApplyError: a worker cannot, and none does.
        """
        async with self._starting:
            self._number += 1
            number = self._number
            asked = [worker for worker in self._workers if worker.is_running]
            refusals = await self._ask(asked, Proposal(config, keys).encode(number), PREPARE_WITHIN)
            if refusals:
                for worker in asked:
                    worker.send(numbered(ABANDON, number))
                raise CannotApplyError("; ".join(refusals))
            for worker in self._workers:
                worker.adopt(config)
            await self._ask(asked, numbered(COMMIT, number), COMMIT_WITHIN)

    async def _ask(self, asked: Sequence[WorkerProcess], message: bytes, seconds: float) -> list[str]:
        """Send this to each of them; returns why some have not done it within `seconds`."""
        answers = {worker.number: worker.ask(message, self._number) for worker in asked}
        if waited := [answer for answer in answers.values() if not answer.done()]:
            await asyncio.wait(waited, timeout=seconds)
        late = f"has not answered within {seconds:g} s"
        reasons = {number: answer.result() if answer.done() else late for number, answer in answers.items()}
        return [f"worker {number} {reason}" for number, reason in reasons.items() if reason]
