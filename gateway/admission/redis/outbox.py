"""Sends commands whose reply nothing awaits (settlements, releases), and retries them within bounds.

Each of them may be sent twice without harm, while the store remembers settlements. A slot or lock whose release is lost
ends with its lease.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

from gateway.admission.redis.client import MultiplexedClient, RunCommands
from gateway.admission.redis.commands import SETTLED_FOR, Command, ErrorReply, NoScript
from gateway.admission.store import StoreError, StoreListener

MAX_KEPT = 10_000  # commands; above that the oldest is dropped
MAX_TRIES = 5  # of one command, while the store is up
# Seconds after which a command that was sent before is not sent again: the store may have applied it, and by then
# nearly forgotten. One that was never sent is kept for as long as the store is away.
MAX_AGE = SETTLED_FOR / 1000 / 2
BATCH = 100  # commands retried by one tick


class Outbox:
    """Commands that have not arrived yet."""

    def __init__(self, client: MultiplexedClient, listener: StoreListener) -> None:
        self._client = client
        self._listener = listener
        self._kept: deque[_Kept] = deque()
        self._sent: set[asyncio.Future[Any]] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def send(self, command: Command) -> None:
        """Send it now, or as soon as the store is up."""
        self._send(_Kept(command))

    def _send(self, kept: _Kept) -> None:
        if kept.is_old:
            self._listener.failed("dropped")
            return
        try:
            reply = self._client.call(kept.command)
        except StoreError:
            self._keep(kept)
            return
        self._sent.add(reply)
        first_sent = kept.first_sent or monotonic()
        reply.add_done_callback(partial(self._on_reply, _Kept(kept.command, kept.tries + 1, first_sent)))

    async def flush(self) -> None:
        """Wait until everything sent has arrived or failed, which takes no longer than one call may."""
        if self._sent:
            await asyncio.wait(self._sent)

    def tick(self) -> None:
        """Retry what failed while the store was up."""
        if self._client.is_up:
            for _ in range(min(BATCH, len(self._kept))):
                self._send(self._kept.popleft())

    async def catch_up(self, run: RunCommands) -> None:
        """Send everything; what the store refuses is dropped.

        Raises:
            StoreError: the store went away again; the rest is kept.
        """
        fresh = deque(kept for kept in self._kept if not kept.is_old)
        for _ in range(len(self._kept) - len(fresh)):
            self._listener.failed("dropped")
        self._kept = fresh
        while self._kept:
            batch = [self._kept.popleft() for _ in range(min(BATCH, len(self._kept)))]
            has_arrived = False
            try:
                replies = await run([kept.command for kept in batch])
                has_arrived = True
            finally:
                if not has_arrived:
                    self._kept.extendleft(reversed(batch))
            for reply in replies:
                if isinstance(reply, ErrorReply | NoScript):
                    self._listener.failed("dropped")

    def _on_reply(self, sent: _Kept, reply: asyncio.Future[Any]) -> None:
        self._sent.discard(reply)
        if reply.cancelled() or reply.exception() is not None:
            self._keep(sent)

    def _keep(self, kept: _Kept) -> None:
        if kept.tries >= MAX_TRIES:
            self._listener.failed("dropped")
            return
        if len(self._kept) >= MAX_KEPT:
            self._kept.popleft()
            self._listener.failed("dropped")
        self._kept.append(kept)


class _Kept(NamedTuple):
    """A command, how often it was sent, and when first, in monotonic seconds; 0: never."""

    command: Command
    tries: int = 0
    first_sent: float = 0.0

    @property
    def is_old(self) -> bool:
        return bool(self.first_sent) and monotonic() - self.first_sent > MAX_AGE
