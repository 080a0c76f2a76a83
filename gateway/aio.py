"""What the gateway adds to asyncio: a coarse timer, a one-shot event, background tasks, turns, threads of a purpose."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from time import monotonic, perf_counter, sleep, thread_time
from typing import Any, Generic, ParamSpec, TypeVar

from gateway.steps import call_between_steps

INTERVAL = 0.25  # seconds between two ticks: the most by which a deadline is late
LEAST_STEP, LONGEST_SLEEP = 0.001, 0.01  # seconds of CPU between two looks; seconds
WAITED = 0.1  # of its CPU time that a thread may wait for others before it gives way

T = TypeVar("T")
P = ParamSpec("P")


class Ticker:
    """Calls each watcher with the monotonic time every `INTERVAL` seconds, from `start` to `stop`."""

    def __init__(self, watchers: Sequence[Callable[[float], None]]) -> None:
        self._watchers = tuple(watchers)
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._next = asyncio.get_running_loop().call_later(INTERVAL, self._tick)

    def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._next = loop.call_later(INTERVAL, self._tick)
        now = monotonic()
        for watch in self._watchers:
            loop.call_soon(
                watch, now
            )  # one callback each, so that an exception in one does not stop the rest


def untaken(transport: asyncio.WriteTransport) -> int:
    """Bytes that were written and that the peer's system has not taken: in the transport's buffer and in the system's.

    The latter shows that a slow client reads: the system takes more only once a third of its megabytes is free. Under
    TLS it is all that shows it for long, as what waits below TLS is in neither.
    """
    waiting = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is None:  # it is closed
        return waiting
    try:
        (queued,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
    except (OSError, ValueError):  # closed meanwhile, or a system that does not say it of this kind of socket
        return waiting
    return waiting + int(queued)


class OneShot(Generic[T]):
    """A future that synchronous code sets and at most one task awaits; without a Future until there is a waiter."""

    __slots__ = ("_error", "_on_set", "_value", "_waiter", "is_set")

    def __init__(self) -> None:
        self._value: T | None = None
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._on_set: Callable[[], object] | None = None
        self.is_set = False

    def set(self, value: T) -> None:
        """Ignored if it is set already, as `fail` is."""
        if not self.is_set:
            self._value = value
            self._wake()

    def fail(self, error: Exception) -> None:
        """Make `wait` raise this error."""
        if not self.is_set:
            self._error = error
            self._wake()

    async def wait(self) -> T:
        """Return the value or raise the error."""
        if not self.is_set:
            await self.waiter()
        return self.result()

    def waiter(self) -> asyncio.Future[None]:
        """A future that is done once it is set. To await it, then take the `result`, spares a frame of `wait`."""
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        return waiter

    def result(self) -> T:
        """The value of one that is set. Raises the error."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set, or T is None

    @contextmanager
    def interrupts(self) -> Iterator[None]:
        """Leave the block, whatever this task awaits in it, as soon as the value or the error is set."""
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("only a task can be interrupted")
        self._on_set = task.cancel
        try:
            yield
        except asyncio.CancelledError:
            if not self.is_set:
                raise
            task.uncancel()
        finally:
            self._on_set = None

    def _wake(self) -> None:
        self.is_set = True
        if self._on_set is not None:
            self._on_set()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Emptiness:
    """Waits until a collection is empty; costs nothing while nobody waits. Call `check` when something has left it."""

    def __init__(self, held: Sized) -> None:
        self._held = held
        self._empty: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        if self._held:
            self._empty = self._empty or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._empty)

    def check(self) -> None:
        if self._empty is not None and not self._held:
            self._empty.set_result(None)
            self._empty = None


class Tasks:
    """Background tasks that are not awaited: kept from the garbage collector and joined at shutdown.

    `on_error` is called with an exception that a task did not handle.
    """

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._on_error = on_error
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def join(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, then they are cancelled
        """Wait up to `timeout` seconds, then cancel the tasks that are left and wait for their end."""
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


class Turns:
    """Shares out the iterations of the event loop among tasks with much to do, first come, first served.

    A task that has its next piece of work at hand never gives way by itself, and many of them add up.
    """

    def __init__(self, most: int) -> None:
        """`most`: steps of all tasks together in one iteration."""
        self._most = most
        self._taken = 0  # in this iteration
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._next: asyncio.Handle | None = None
        self.iteration = 0  # of those in which steps were taken

    async def step(self) -> None:
        """Wait for an iteration in which another step may be taken."""
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._turn)
        if self._taken < self._most and not self._waiting:
            self._taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _turn(self) -> None:
        """Begin an iteration: the tasks that wait go on in the next one, so these steps are counted there."""
        self.iteration += 1
        self._taken = 0
        while self._waiting and self._taken < self._most:
            turn = self._waiting.popleft()
            if not turn.done():  # else its task was cancelled
                turn.set_result(None)
                self._taken += 1
        self._next = asyncio.get_running_loop().call_soon(self._turn) if self._taken else None


class _GivesWay:
    """Sleeps between steps for as long as they took, if another thread wanted the interpreter or a core meanwhile.

    The interpreter goes from thread to thread: the loop has it for `process.SWITCH_INTERVAL`, then waits for a whole
    step of this one. With work for 12 ms it would be late by 90.
    """

    def begin(self) -> None:
        """In the thread, before anything is done."""
        self._began, self._worked = perf_counter(), thread_time()

    def __call__(self) -> None:
        worked = thread_time() - self._worked
        if worked < LEAST_STEP:
            return
        waited = perf_counter() - self._began - worked
        if waited > WAITED * worked:
            sleep(min(worked, LONGEST_SLEEP))
        self.begin()


class WorkThread:
    """One thread for one purpose: work that is too long for the loop, one job at a time, in the order of arrival.

    The default executor of the event loop is shared by everything that uses it, name resolution included, and its queue
    has no bound. More threads would not be faster: Python runs one at a time.
    """

    def __init__(self, name: str, most: int | None = None) -> None:
        """`most`: jobs that run or wait; None where what their callers hold meanwhile is bounded elsewhere."""
        self._most = most
        self._jobs = 0
        self._way = _GivesWay()
        self._executor = ThreadPoolExecutor(1, name, call_between_steps, (self._way,))

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start a job. Call this on the loop.

        Raises:
            asyncio.QueueFull: `most` jobs run or wait.
        """
        if self._most is not None and self._jobs >= self._most:
            raise asyncio.QueueFull
        self._jobs += 1
        loop = asyncio.get_running_loop()
        job = self._executor.submit(self._begin, partial(call, *args, **kwargs))
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._ended))
        return job

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a job. If the caller is cancelled, a job that runs already runs to its end.

        Raises:
            asyncio.QueueFull: as for `submit`.
        """
        return await asyncio.wrap_future(self.submit(call, *args, **kwargs))

    async def close(self) -> None:
        """Drop the jobs that wait; wait for the one that runs."""
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)

    def _begin(self, call: Callable[[], T]) -> T:
        self._way.begin()
        return call()

    def _ended(self) -> None:
        self._jobs -= 1
