"""The one connection of this process to the shared store; all commands are pipelined on it.

After three failures in a row, when the connection breaks, or when the server refuses to write, the store counts as
away: the connection is dropped, all pending calls fail, and new calls fail at once. One background task reconnects,
with pauses, to the address that the name has by then. Only that task waits for a slow store, and a process never opens
more than one connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from time import monotonic
from typing import Any

from gateway.admission.redis.commands import PING, Command, ErrorReply, NoScript
from gateway.admission.redis.connection import RedisConnection
from gateway.admission.redis.key_repair import KeyRepair
from gateway.admission.redis.pipeline import Breaker, OnLateReply, RequestQueue
from gateway.admission.store import STORE_TIMEOUT, Spawn, StoreError, StoreListener

CONNECT_TIMEOUT = (
    2.0  # seconds to connect and authenticate, and for each batch sent before the store counts as up
)
BATCH = 100  # commands sent before their replies are read, while catching up
PING_AFTER = 2.0  # seconds without a reply

RunCommands = Callable[[Sequence[Command]], Awaitable[list[Any]]]
CatchUp = Callable[[RunCommands], Awaitable[None]]


class MultiplexedClient:
    """Keeps the connection open from `start` to `close`. `random` returns numbers from 0 to 1."""

    def __init__(
        self,
        connection: RedisConnection,
        spawn: Spawn,
        listener: StoreListener,
        random: Callable[[], float],
        repair: KeyRepair | None = None,
    ) -> None:
        self._connection = connection
        self._spawn = spawn
        self._listener = listener
        self._random = random
        self._breaker = Breaker()
        self._repair = repair
        self._queue = RequestQueue(self._breaker, listener.failed, self.give_up, repair)
        self._tasks: set[asyncio.Task[None]] = set()
        self._tried = asyncio.Event()
        self._reported: bool | None = None  # the state that the listener knows
        self.is_up = False

    def __len__(self) -> int:
        """The number of pending calls."""
        return len(self._queue)

    async def start(self, handshake: Sequence[Command], catch_up: CatchUp) -> None:
        """Connect; returns after the first attempt, whether or not it succeeded.

        Args:
            handshake: the first commands of every connection; a store that refuses one counts as away.
            catch_up: brings the store up to date each time, before it counts as up.
        """
        self._start_task(self._keep_connected(tuple(handshake), catch_up), "limit store")
        await self._tried.wait()

    def use(self, url: str, ca: str | None) -> None:
        """Move to this store, if it is another place: what is open there is brought up to date as after an outage.

        Raises:
            ValueError: as for `RedisConnection`.
        """
        if self._connection.use(url, ca):
            self.give_up(StoreError("connection", "moved"))

    async def close(self) -> None:
        """Close the connection; pending calls fail."""
        self._reported = False  # not a change to report
        self.give_up(StoreError("connection"))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._connection.close()

    def call(
        self, command: Command, timeout: float = STORE_TIMEOUT, on_late_reply: OnLateReply | None = None
    ) -> asyncio.Future[Any]:
        """Send a command; the future gets its reply, or a `StoreError`, at most `timeout` seconds after it is sent.

        Raises:
            StoreError: the store is away, too many calls are pending, or `timeout` is 0.
        """
        if not self.is_up:
            raise StoreError("away")
        return self._queue.add(command, timeout, on_late_reply)

    def send(self, command: Command, on_reply: Callable[[Any], None]) -> None:
        """Send a command without waiting and without retry; `on_reply` gets its reply, if there is one in time."""

        def done(reply: asyncio.Future[Any]) -> None:
            if not reply.cancelled() and reply.exception() is None:
                try:
                    on_reply(reply.result())
                except StoreError as error:
                    self.give_up(error)

        with contextlib.suppress(StoreError):
            self.call(command).add_done_callback(done)

    def tick(self, now: float) -> None:
        """Check an idle connection with a PING. `now`: monotonic seconds."""
        if self.is_up and now - self._queue.replied_at > PING_AFTER and not self._queue.has_waiters:
            self.call(PING).add_done_callback(ignore_failure)

    def _start_task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._spawn(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep_connected(self, handshake: tuple[Command, ...], catch_up: CatchUp) -> None:
        while True:
            try:
                await self._counted(self._connect(handshake, catch_up))
                await self._send()
            except StoreError as error:
                self.give_up(error)
            await self._connection.close()
            self._tried.set()
            await _pause(self._breaker.pause(monotonic(), self._random()))

    async def _counted(self, connecting: Coroutine[Any, Any, None]) -> None:
        """Count an attempt that fails: nothing is pending that could be counted instead."""
        try:
            await connecting
        except StoreError as error:
            self._listener.failed(error.kind)
            raise

    async def _connect(self, handshake: tuple[Command, ...], catch_up: CatchUp) -> None:
        """Connect and catch up; the store is up if a PING is then answered as quickly as requests need it."""
        await _within(CONNECT_TIMEOUT, self._connection.open())
        if any(isinstance(reply, ErrorReply | NoScript) for reply in await self._run(handshake)):
            raise StoreError("reply")
        await catch_up(self._run)
        if await _within(STORE_TIMEOUT, self._send_and_read((PING,))) != [b"PONG"]:
            raise StoreError("reply")
        self._queue.replied_at = monotonic()
        self._breaker.came_up(self._queue.replied_at)
        self._set_state(is_up=True, why="")
        self._tried.set()

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, errors about one command among them.

        Raises:
            StoreError: the connection broke, or the server refuses to write.
        """
        replies: list[Any] = []
        for at in range(0, len(commands), BATCH):
            replies += await _within(CONNECT_TIMEOUT, self._send_and_repair(commands[at : at + BATCH]))
        for reply in replies:
            if isinstance(reply, ErrorReply) and reply.is_refusal:
                raise StoreError("reply", reply.word)
        return replies

    async def _send_and_repair(self, commands: Sequence[Command]) -> list[Any]:
        """As `_send_and_read`; commands with keys of a wrong type are sent once more."""
        replies = await self._send_and_read(commands)
        for place, command in enumerate(commands):
            reply = replies[place]
            if self._repair is not None and isinstance(reply, ErrorReply) and reply.is_of_a_key:
                found, replies[place] = await self._send_and_read((self._repair.command(command), command))
                self._repair.replaced(command, found)
        return replies

    async def _send_and_read(self, commands: Sequence[Command]) -> list[Any]:
        """Bypass the queue, on a connection that is not up yet."""
        await self._connection.send([command.words for command in commands])
        return [await self._connection.read_reply() for _ in commands]

    async def _send(self) -> None:
        """Send queued commands until the store is away."""
        reader = self._start_task(self._read(), "limit store replies")
        try:
            while self.is_up:
                await self._queue.wakeup.wait()
                if batch := self._queue.next_batch():
                    self._queue.is_blocked = True
                    await self._connection.send(batch)
                    self._queue.is_blocked = False
        finally:
            self._queue.is_blocked = False
            reader.cancel()
            await asyncio.wait([reader])

    async def _read(self) -> None:
        """Read replies until the store is away."""
        try:
            while self.is_up:
                self._queue.on_reply(await self._connection.read_reply())
        except StoreError as error:
            self.give_up(error)

    def give_up(self, error: StoreError) -> None:
        """Count the store as away: fail all pending calls and break the connection, so that sender and reader stop."""
        self._set_state(is_up=False, why=error.reason)
        self._queue.fail_all(error.kind)
        self._connection.abort()

    def _set_state(self, *, is_up: bool, why: str) -> None:
        self.is_up = is_up
        if is_up is not self._reported:
            self._reported = is_up
            self._listener.changed(is_up, why)


def ignore_failure(reply: asyncio.Future[Any]) -> None:
    """Mark the exception of a call that nothing awaits as retrieved; it is counted already."""
    if not reply.cancelled():
        reply.exception()


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
