"""The one connection of this process to the shared store, which everybody's commands travel on together.

Three failures in a row, or a break, and the store counts as away: the connection is dropped, whoever waits is told
at once, and from then on nobody waits. One background task tries to come back, with pauses; it alone pays for a
store that is slow, and there is never a storm of connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from time import monotonic
from typing import Any

from gateway.admission.redis.commands import PING, Command
from gateway.admission.redis.connection import RedisConnection
from gateway.admission.redis.pipeline import Breaker, OnLateReply, RequestQueue
from gateway.admission.store import STORE_TIME, ErrorReply, Failure, NoScript, StoreError, StoreListener

OPEN_WITHIN = 2.0  # seconds to connect and authenticate, and for each of the commands that it begins with
AT_ONCE = 100  # commands that are sent before their answers are read, while it catches up
QUIET = 2.0  # seconds without an answer, before the connection is tried with a PING

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
Run = Callable[[Sequence[Command]], Awaitable[list[Any]]]
CatchUp = Callable[[Run], Awaitable[None]]


class MultiplexedClient:
    """The connection, kept open from `start` to `close`. `chance` gives numbers from 0 to 1."""

    def __init__(
        self, connection: RedisConnection, spawn: Spawn, reports: StoreListener, chance: Callable[[], float]
    ) -> None:
        self._connection = connection
        self._spawn = spawn
        self._reports = reports
        self._chance = chance
        self._breaker = Breaker()
        self._traffic = RequestQueue(self._breaker, reports.failed, self._fall)
        self._tasks: set[asyncio.Task[None]] = set()
        self._tried = asyncio.Event()
        self._known: bool | None = None  # the state that was told
        self.is_up = False

    def __len__(self) -> int:
        """How many calls are on their way."""
        return len(self._traffic)

    async def start(self, opening: Sequence[Command], catch_up: CatchUp) -> None:
        """Connect; returns when that has succeeded, or failed once.

        Args:
            opening: commands that every connection begins with; a store that refuses one is not there.
            catch_up: does what is due before the store counts as there, each time it comes back.
        """
        self._begin(self._keep(tuple(opening), catch_up), "limit store")
        await self._tried.wait()

    async def close(self) -> None:
        """Close the connection; whoever waits is told."""
        self._known = False  # nobody needs to be told of that
        self._fall("connection")
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._connection.close()

    def call(
        self, command: Command, within: float = STORE_TIME, late: OnLateReply | None = None
    ) -> asyncio.Future[Any]:
        """Send a command; the future has its answer, or a `StoreError`, `within` seconds after it was sent.

        Raises:
            StoreError: the store is away, too much is on its way, or there is no time.
        """
        if not self.is_up:
            raise StoreError("away")
        return self._traffic.add(command, within, late)

    def tick(self, now: float) -> None:
        """See to it that a connection on which nothing happens is still one. `now`: monotonic seconds."""
        if self.is_up and now - self._traffic.answered_at > QUIET and not self._traffic.has_waiting:
            self.call(PING).add_done_callback(looked_at)

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._spawn(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep(self, opening: tuple[Command, ...], catch_up: CatchUp) -> None:
        while True:
            try:
                await self._open(opening, catch_up)
                await self._serve()
            except StoreError as error:
                self._fall(error.kind)
            await self._connection.close()
            self._tried.set()
            await _pause(self._breaker.pause(monotonic(), self._chance()))

    async def _open(self, opening: tuple[Command, ...], catch_up: CatchUp) -> None:
        """Connect, catch up; it is there if then a question is answered as quickly as requests need it."""
        await _within(OPEN_WITHIN, self._connection.open())
        if any(isinstance(answer, ErrorReply | NoScript) for answer in await self._run(opening)):
            raise StoreError("reply")
        await catch_up(self._run)
        await _within(STORE_TIME, self._ask((PING,)))
        self._traffic.answered_at = monotonic()
        self._breaker.came_up(self._traffic.answered_at)
        self._set(is_up=True, why="")
        self._tried.set()

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        answers: list[Any] = []
        for at in range(0, len(commands), AT_ONCE):
            answers += await _within(OPEN_WITHIN, self._ask(commands[at : at + AT_ONCE]))
        return answers

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send these and read their answers, on a connection that nobody else uses yet."""
        await self._connection.send([command.words for command in commands])
        return [await self._connection.answer() for _ in commands]

    async def _serve(self) -> None:
        """Write what is to be sent, until the store is away."""
        reader = self._begin(self._read(), "limit store answers")
        try:
            while self.is_up:
                await self._traffic.something.wait()
                if words := self._traffic.sending():
                    self._traffic.is_stuck = True
                    await self._connection.send(words)
                    self._traffic.is_stuck = False
        finally:
            self._traffic.is_stuck = False
            reader.cancel()
            await asyncio.wait([reader])

    async def _read(self) -> None:
        """Hand out the answers, until the store is away."""
        try:
            while self.is_up:
                self._traffic.take(await self._connection.answer())
        except StoreError as error:
            self._fall(error.kind)

    def _fall(self, kind: Failure) -> None:
        """It is away: tell everybody who waits, and let go of it, so that who sends or reads does not go on."""
        self._set(is_up=False, why=kind)
        self._traffic.drop(kind)
        self._connection.abort()

    def _set(self, *, is_up: bool, why: str) -> None:
        self.is_up = is_up
        if is_up is not self._known:
            self._known = is_up
            self._reports.changed(is_up, why)


def looked_at(answer: asyncio.Future[Any]) -> None:
    """The failure of a call for which nobody waits has been counted already."""
    if not answer.cancelled():
        answer.exception()


async def _within(seconds: float, work: Coroutine[Any, Any, Any]) -> Any:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise StoreError("timeout") from None


async def _pause(seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().create_future()
