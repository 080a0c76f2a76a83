"""Conversation locks across processes: first among the requests of this process, then in the store.

Same contract as `ConversationLocks`, across processes: one holder, one waiter, everyone else gets ConversationBusy. A
waiter polls the store, so it blocks no other command. While the store is away the locks are of this process only; but a
request that has seen another process hold the lock never gets it for that reason.

A lock that the store has lost while its run goes on is taken again if it is free. If another process holds it, this
process is the one that gives way: Flowise keys its streams by conversation, so the two answers would mix, and the other
one began later and has the client's last question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic

from msgspec import Struct

from gateway.admission.limiter import LEASE, RENEWALS
from gateway.admission.locks import ABORTED, BUSY, ConversationLocks, Key, still_busy
from gateway.admission.redis.client import MultiplexedClient
from gateway.admission.redis.commands import Command, LockCommands, Script
from gateway.admission.redis.outbox import Outbox
from gateway.admission.store import Losses, StoreBudget, StoreError
from gateway.errors import ConversationBusy, GatewayError

WAITER_LEASE = 5.0  # seconds that a place in the queue lasts without renewal, and a lock that was handed over
RENEW_WAITERS_EVERY = 1.0
_REPLIES = (b"taken", b"waiting", b"busy", b"called_off")  # to `take` and `wait`
FIRST_POLL, MAX_POLL = 0.03, 0.25  # seconds between two polls of a waiter


class RedisConversationLocks(ConversationLocks):
    """`is_busy` and `__len__` know the locks of this process only.

    `name` is unique among all processes, ever; `random` returns numbers from 0 to 1.
    """

    def __init__(
        self,
        client: MultiplexedClient,
        outbox: Outbox,
        name: str,
        random: Callable[[], float],
        lease: float = LEASE,
    ) -> None:
        super().__init__()
        self._client = client
        self._outbox = outbox
        self._name = name
        self._random = random
        self._renew_every = lease / RENEWALS
        self._losses = Losses()
        self._on_lost: Callable[[Callable[[], None]], None] = lambda _: None
        self._script = Script("conversation_lock.lua")
        self._commands = LockCommands(self._script, lease, WAITER_LEASE)
        self._held: dict[Key, _Attempt] = {}
        self._local_waiters: dict[Key, _Attempt] = {}  # wait for a run of this process
        self._acquiring: dict[
            Key, _Attempt
        ] = {}  # have the lock in this process, and acquire it in the store
        self._count = 0
        self._renew_at = self._renew_waiters_at = 0.0

    def report_to(self, losses: Losses, on_lost: Callable[[Callable[[], None]], None]) -> None:
        """Count losses there. `on_lost`: called if another process has a lock, with the function that releases it."""
        self._losses, self._on_lost = losses, on_lost

    def take(self, key: Key) -> None:
        """None: the store is asked, so there is something to wait for."""

    async def acquire(self, key: Key, wait: float, budget: StoreBudget | None = None) -> Callable[[], None]:
        self._count += 1
        token = f"{self._name}:{self._count}"
        cancelled = asyncio.get_running_loop().create_future()
        attempt = _Attempt(key, token, wait, monotonic() + wait, budget or StoreBudget(), cancelled)
        try:
            release_locally = await self._acquire_locally(attempt)
            try:
                await self._acquire_in_store(attempt)
                self._held[key] = attempt
            finally:
                if self._held.get(key) is not attempt:
                    release_locally()
        finally:
            if self._held.get(key) is not attempt and attempt.may_be_stored:
                self._outbox.send(self._commands("leave", key, token))

        def release() -> None:
            if self._held.get(key) is attempt:
                del self._held[key]
                if attempt.may_be_stored:
                    self._outbox.send(self._commands("give_back", key, token))
                release_locally()

        attempt.release = release
        return release

    def cancel_waiter(self, key: Key) -> bool:
        """As `ConversationLocks.cancel_waiter`. A waiter of another process is rejected too, but not in the result."""
        error = ConversationBusy(ABORTED)
        if super().cancel_waiter(key) or _reject(self._local_waiters.get(key), error):
            return True
        if key in self._acquiring and self._acquiring[key].is_waiting:
            return _reject(self._acquiring[key], error)
        if self._client.is_up:
            self._outbox.send(self._commands("call_off", key, ""))
        return False

    def cancel_all_waiters(self, error: GatewayError) -> None:
        """Reject all that wait in this process."""
        super().cancel_all_waiters(error)
        for attempt in (*self._local_waiters.values(), *self._acquiring.values()):
            _reject(attempt, error)

    async def load(self) -> Command:
        """The first command of each connection."""
        return await self._script.load()

    def renewals(self) -> list[tuple[Command, Callable[[bytes], None]]]:
        """Commands that renew all locks held here, also in a store that has lost them; and what takes each reply."""
        held = [attempt for attempt in self._held.values() if not attempt.is_lost]
        for attempt in held:
            attempt.may_be_stored = True
        return [
            (self._commands("renew", attempt.key, attempt.token), partial(self._on_renewal, attempt))
            for attempt in held
        ]

    def _on_renewal(self, attempt: _Attempt, reply: bytes) -> None:
        if reply not in (b"taken", b"retaken", b"lost"):
            raise StoreError("reply")
        if self._held.get(attempt.key) is not attempt or attempt.is_lost:
            return
        if reply == b"lost":
            attempt.is_lost = True
            self._losses.conversations += 1
            self._on_lost(attempt.release)
        elif reply == b"retaken" and attempt.is_stored:
            self._losses.locks += 1
        attempt.is_stored = True

    def tick(self, now: float) -> None:
        """Renew locks and places in queues in time. `now`: monotonic seconds."""
        if not self._client.is_up:
            return
        if now >= self._renew_at:
            self._renew_at = now + self._renew_every
            for command, on_reply in self.renewals():
                self._client.send(command, on_reply)
        if now >= self._renew_waiters_at:
            self._renew_waiters_at = now + RENEW_WAITERS_EVERY
            for key, attempt in self._local_waiters.items():
                self._renew_waiter(key, attempt)

    async def _acquire_locally(self, attempt: _Attempt) -> Callable[[], None]:
        """Acquire among the requests of this process; while waiting, hold the one place in the store's queue."""
        key = attempt.key
        if attempt.wait <= 0 or not self.is_busy(key):
            return await super().acquire(key, attempt.wait)
        if key in self._local_waiters or (key in self._acquiring and self._acquiring[key].is_waiting):
            raise ConversationBusy(BUSY)
        self._local_waiters[key] = attempt
        try:
            if await self._call("wait", attempt) == b"busy":
                raise ConversationBusy(BUSY)
            if attempt.cancelled.done():
                attempt.cancelled.result()
            return await super().acquire(key, attempt.wait)
        finally:
            del self._local_waiters[key]

    async def _acquire_in_store(self, attempt: _Attempt) -> None:
        """Acquire after the requests of other processes."""
        self._acquiring[attempt.key] = attempt
        try:
            reply = await self._call("take", attempt)
            if reply is None:
                return
            poll = FIRST_POLL
            while reply != b"taken":
                attempt.is_waiting = True
                _check(reply, attempt)
                pause = min(poll * (0.5 + self._random()), max(0.0, attempt.until - monotonic()))
                await asyncio.wait([attempt.cancelled], timeout=pause)
                poll = min(MAX_POLL, 2 * poll)
                attempt.budget = StoreBudget()
                reply = await self._call("take", attempt)
            attempt.is_stored = True
        finally:
            del self._acquiring[attempt.key]

    async def _call(self, act: str, attempt: _Attempt) -> bytes | None:
        """The store's reply; None: it does not answer."""
        may_wait = attempt.until > monotonic()
        command = self._commands(act, attempt.key, attempt.token, may_wait=may_wait)
        try:
            call = self._client.call(command, attempt.budget.left)
            attempt.may_be_stored = True
            reply: bytes = await call
        except StoreError:
            attempt.budget.exhaust()
            return None
        if reply not in _REPLIES:  # this is not a store of ours
            self._client.give_up(StoreError("reply"))
            return None
        return reply

    def _renew_waiter(self, key: Key, attempt: _Attempt) -> None:
        def on_reply(reply: bytes) -> None:
            if reply == b"called_off" and self._local_waiters.get(key) is attempt:
                super(RedisConversationLocks, self).cancel_waiter(key)

        self._client.send(self._commands("keep_waiting", key, attempt.token), on_reply)


class _Attempt(Struct):
    """One request for one lock.

    Attributes:
        until: monotonic seconds.
        cancelled: fails with the error if the request shall wait no longer.
        may_be_stored: the store may know the token.
        is_stored: the store has confirmed that it is the holder's.
        is_lost: another process holds the lock.
        is_waiting: for a run of another process.
        release: the result of `acquire`.
    """

    key: Key
    token: str
    wait: float
    until: float
    budget: StoreBudget
    cancelled: asyncio.Future[None]
    may_be_stored: bool = False
    is_stored: bool = False
    is_lost: bool = False
    is_waiting: bool = False
    release: Callable[[], None] = lambda: None


def _check(reply: bytes | None, attempt: _Attempt) -> None:
    """Raise if the attempt must not wait any longer."""
    if attempt.cancelled.done():
        attempt.cancelled.result()
    if reply == b"called_off":
        raise ConversationBusy(ABORTED)
    if attempt.wait > 0 and attempt.until <= monotonic():
        raise ConversationBusy(still_busy(attempt.wait))
    if reply == b"busy" or attempt.wait <= 0:
        raise ConversationBusy(BUSY)


def _reject(attempt: _Attempt | None, error: GatewayError) -> bool:
    """Fail a waiting request; returns whether there was one."""
    if attempt is None or attempt.cancelled.done():
        return False
    attempt.cancelled.set_exception(error)
    attempt.cancelled.exception()  # mark as retrieved: the waiting request may be gone
    return True
