"""Background tasks that nobody awaits: kept from the garbage collector, waited for at the end, never silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, Generic, TypeVar

INTERVAL = 0.25  # seconds; so a deadline is late by at most that


class Ticker:
    """Calls each of the watchers with the monotonic time, four times a second, from `start` to `stop`."""

    def __init__(self, watchers: Sequence[Callable[[float], None]]) -> None:
        self._watchers = tuple(watchers)
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin."""
        self._next = asyncio.get_running_loop().call_later(INTERVAL, self._tick)

    def stop(self) -> None:
        """End."""
        if self._next is not None:
            self._next.cancel()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._next = loop.call_later(INTERVAL, self._tick)
        now = monotonic()
        for watch in self._watchers:
            loop.call_soon(watch, now)  # each by itself: what one raises hides no other


T = TypeVar("T")


class OneShot(Generic[T]):
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


class Tasks:
    """The tasks of one process. `on_error` is told of an exception that a task did not handle itself."""

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._on_error = on_error
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run it in the background."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def join(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, then they are cancelled
        """Wait for all of them, at most `timeout` seconds; cancel what is left."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(error)
