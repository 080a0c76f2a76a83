"""Conversation locks: one run at a time in a conversation. One holder, one waiter, everyone else gets ConversationBusy.

Flowise keys its streams by chatId alone, so two runs at once would get each other's tokens (capture
same-chatid-first). These locks are of this process only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from gateway.admission.store import StoreBudget
from gateway.errors import ConversationBusy, GatewayError

Key = tuple[str, str]  # the origin of the Flowise (not its configured name), the chatId that Flowise sees
BUSY = "Another answer of this conversation is still running; wait for its end, or abort it."
ABORTED = "The waiting request was aborted."


class ConversationLocks:
    """The locks that are held now."""

    def __init__(self) -> None:
        self._locks: dict[Key, _Lock] = {}

    def __len__(self) -> int:
        return len(self._locks)

    def is_busy(self, key: Key) -> bool:
        return key in self._locks

    def take(self, key: Key) -> Callable[[], None] | None:
        """Acquire the lock as `acquire` does, if that waits for nothing; None: it is held, or a store has it."""
        if key in self._locks:
            return None
        self._locks[key] = _Lock()  # as `_taken`, of a lock that nobody holds
        return _Release(self, key)

    async def acquire(
        self,
        key: Key,
        wait: float,
        budget: StoreBudget | None = None,  # noqa: ARG002 - for locks in a store
    ) -> Callable[[], None]:
        """Acquire the lock, after waiting up to `wait` seconds (0: not at all); returns a function that releases it.

        `budget`: how long this request may wait for the shared store, apart from waiting for the lock.

        Raises:
            ConversationBusy: the lock stayed held, another request waits already, or the wait was cancelled.
            Draining: the process is about to end.
        """
        lock = self._locks.get(key)
        if lock is not None:
            await self._wait_for(lock, wait)
        return self._taken(key)

    def _taken(self, key: Key) -> Callable[[], None]:
        """Hold the lock, which is free or was handed over; returns the function that releases it."""
        self._locks.setdefault(key, _Lock())
        return _Release(self, key)

    def cancel_waiter(self, key: Key) -> bool:
        """Reject the request that waits for this lock; returns whether there was one."""
        lock = self._locks.get(key)
        return lock is not None and _reject(lock, ConversationBusy(ABORTED))

    def cancel_all_waiters(self, error: GatewayError) -> None:
        for lock in self._locks.values():
            _reject(lock, error)

    async def _wait_for(self, lock: _Lock, wait: float) -> None:
        if wait <= 0 or lock.waiter is not None:
            raise ConversationBusy(BUSY)
        waiter = lock.waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(wait):
                await waiter
        except TimeoutError:
            if _has_lock(waiter):
                return
            raise ConversationBusy(still_busy(wait)) from None
        except asyncio.CancelledError:
            if _has_lock(waiter):
                self.hand_over(next(key for key, held in self._locks.items() if held is lock))
            raise
        finally:
            if lock.waiter is waiter:
                lock.waiter = None

    def hand_over(self, key: Key) -> None:
        """Give the lock to the request that waits for it, or free it."""
        waiter = self._locks[key].waiter
        if waiter is not None and not waiter.done():
            self._locks[key].waiter = None
            waiter.set_result(None)
        else:
            del self._locks[key]


class _Release:
    """Releases a lock, once. Smaller than a function with the same names."""

    __slots__ = ("_key", "_locks")

    def __init__(self, locks: ConversationLocks, key: Key) -> None:
        self._locks: ConversationLocks | None = locks
        self._key = key

    def __call__(self) -> None:
        locks, self._locks = self._locks, None
        if locks is not None:
            locks.hand_over(self._key)


class _Lock(msgspec.Struct):
    waiter: asyncio.Future[None] | None = None


def still_busy(wait: float) -> str:
    """The message to a request that has waited for `wait` seconds in vain."""
    return f"Another answer of this conversation is still running after {wait:g} s of waiting."


def _has_lock(waiter: asyncio.Future[None]) -> bool:
    return waiter.done() and not waiter.cancelled() and waiter.exception() is None


def _reject(lock: _Lock, error: GatewayError) -> bool:
    waiter, lock.waiter = lock.waiter, None
    if waiter is None or waiter.done():
        return False
    waiter.set_exception(error)
    waiter.exception()  # mark as retrieved: the waiting request may be gone
    return True
