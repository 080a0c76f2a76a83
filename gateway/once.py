"""A value that comes once, and one task that may wait for it, or leave again without harm to it.

Lighter than a future that is shielded, and an error that nobody waits for is not reported as lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Set by synchronous code, awaited by one task at most."""

    __slots__ = ("_error", "_then", "_value", "_waiter", "is_set")

    def __init__(self) -> None:
        self._value: T | None = None
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._then: Callable[[], object] | None = None
        self.is_set = False

    def set(self, value: T) -> None:
        """It has come; a later value is ignored."""
        if not self.is_set:
            self._value = value
            self._wake()

    def fail(self, error: Exception) -> None:
        """It will not come, for this reason; ignored if it has come."""
        if not self.is_set:
            self._error = error
            self._wake()

    async def wait(self) -> T:
        """The value, or its error raised."""
        if not self.is_set:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set, or T is None

    def then(self, callback: Callable[[], object] | None) -> None:
        """Call this when it comes; None takes the callback back."""
        self._then = callback

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Within it, this task's wait for something else is ended when the value comes, and then its block is left."""
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("it is a task that waits")
        self.then(task.cancel)
        try:
            yield
        except asyncio.CancelledError:
            if not self.is_set:
                raise
            task.uncancel()
        finally:
            self.then(None)

    def _wake(self) -> None:
        self.is_set = True
        if self._then is not None:
            self._then()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
