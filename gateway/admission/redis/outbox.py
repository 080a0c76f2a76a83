"""What could not be told to the shared store: settlements, slots and turns that are free; tried again, within bounds.

Everything here may be sent twice without harm. A slot or turn that stays here frees itself when its lease ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from gateway.admission.redis.client import MultiplexedClient, Run
from gateway.admission.redis.commands import Command
from gateway.admission.store import ErrorReply, NoScript, StoreError, StoreListener

MOST = 10_000  # commands kept; then the oldest goes
TRIES = 5  # of one command, while the store is there
AT_ONCE = 100  # commands tried by one tick


class Outbox:
    """Sends what nobody waits for, and keeps what did not arrive."""

    def __init__(self, link: MultiplexedClient, reports: StoreListener) -> None:
        self._link = link
        self._reports = reports
        self._waiting: deque[tuple[Command, int]] = deque()
        self._sent: set[asyncio.Future[Any]] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def send(self, command: Command, tries: int = 0) -> None:
        """Send it now, or as soon as the store is there."""
        try:
            answer = self._link.call(command)
        except StoreError:
            self._keep(command, tries)
            return
        self._sent.add(answer)
        answer.add_done_callback(lambda answer: self._answered(answer, command, tries + 1))

    async def flush(self) -> None:
        """Wait until what was sent has arrived or failed; no longer than one call may take."""
        if self._sent:
            await asyncio.wait(self._sent)

    def tick(self) -> None:
        """Try again what failed while the store was there."""
        if self._link.is_up:
            for _ in range(min(AT_ONCE, len(self._waiting))):
                self.send(*self._waiting.popleft())

    async def catch_up(self, run: Run) -> None:
        """Send all of it; what the store refuses is dropped.

        Raises:
            StoreError: the store went away again; what is left stays here.
        """
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            has_arrived = False
            try:
                answers = await run([command for command, _ in batch])
                has_arrived = True
            finally:
                if not has_arrived:
                    self._waiting.extendleft(reversed(batch))
            for answer in answers:
                if isinstance(answer, ErrorReply | NoScript):
                    self._reports.failed("dropped")

    def _answered(self, answer: asyncio.Future[Any], command: Command, tries: int) -> None:
        self._sent.discard(answer)
        if answer.cancelled() or answer.exception() is not None:
            self._keep(command, tries)

    def _keep(self, command: Command, tries: int) -> None:
        if tries >= TRIES:
            self._reports.failed("dropped")
            return
        if len(self._waiting) >= MOST:
            self._waiting.popleft()
            self._reports.failed("dropped")
        self._waiting.append((command, tries))
