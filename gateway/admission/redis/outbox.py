"""Sends commands whose reply nothing awaits (settlements, releases), and retries them within bounds.

Each of them may be sent twice without harm. A slot or lock whose release is lost ends with its lease.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from gateway.admission.redis.client import MultiplexedClient, RunCommands
from gateway.admission.redis.commands import Command, ErrorReply, NoScript
from gateway.admission.store import StoreError, StoreListener

MAX_KEPT = 10_000  # commands; above that the oldest is dropped
MAX_TRIES = 5  # of one command, while the store is up
BATCH = 100  # commands retried by one tick


class Outbox:
    """Commands that have not arrived yet."""

    def __init__(self, client: MultiplexedClient, listener: StoreListener) -> None:
        self._client = client
        self._listener = listener
        self._kept: deque[tuple[Command, int]] = deque()
        self._sent: set[asyncio.Future[Any]] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def send(self, command: Command, tries: int = 0) -> None:
        """Send it now, or as soon as the store is up. `tries`: how often it was sent before."""
        try:
            reply = self._client.call(command)
        except StoreError:
            self._keep(command, tries)
            return
        self._sent.add(reply)
        reply.add_done_callback(lambda reply: self._on_reply(reply, command, tries + 1))

    async def flush(self) -> None:
        """Wait until everything sent has arrived or failed, which takes no longer than one call may."""
        if self._sent:
            await asyncio.wait(self._sent)

    def tick(self) -> None:
        """Retry what failed while the store was up."""
        if self._client.is_up:
            for _ in range(min(BATCH, len(self._kept))):
                self.send(*self._kept.popleft())

    async def catch_up(self, run: RunCommands) -> None:
        """Send everything; what the store refuses is dropped.

        Raises:
            StoreError: the store went away again; the rest is kept.
        """
        while self._kept:
            batch = [self._kept.popleft() for _ in range(min(BATCH, len(self._kept)))]
            has_arrived = False
            try:
                replies = await run([command for command, _ in batch])
                has_arrived = True
            finally:
                if not has_arrived:
                    self._kept.extendleft(reversed(batch))
            for reply in replies:
                if isinstance(reply, ErrorReply | NoScript):
                    self._listener.failed("dropped")

    def _on_reply(self, reply: asyncio.Future[Any], command: Command, tries: int) -> None:
        self._sent.discard(reply)
        if reply.cancelled() or reply.exception() is not None:
            self._keep(command, tries)

    def _keep(self, command: Command, tries: int) -> None:
        if tries >= MAX_TRIES:
            self._listener.failed("dropped")
            return
        if len(self._kept) >= MAX_KEPT:
            self._kept.popleft()
            self._listener.failed("dropped")
        self._kept.append((command, tries))
