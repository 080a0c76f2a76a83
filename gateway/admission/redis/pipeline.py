"""Commands queued for the shared store, matched with its replies in order, each with a deadline.

No socket is here: the client takes what is to be sent and brings the replies. A deadline that passes while this process
is busy counts only after the loop has read what has arrived.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from gateway.admission.redis.commands import Command, ErrorReply, NoScript, Word
from gateway.admission.redis.key_repair import KeyRepair
from gateway.admission.store import STORE_TIMEOUT, StoreError, StoreFailure

MAX_PENDING = 10_000  # commands queued and sent
LOOP_PASSES = 5  # of the event loop after a deadline, so that a reply that has arrived is read
FAILURES = 3  # in a row, and the store counts as away
FIRST_PAUSE, MAX_PAUSE = 0.1, 2.0  # seconds
STEADY = 10.0  # seconds up, after which the next pause is the first one again

OnLateReply = Callable[[Any], None]


class RequestQueue:
    """All pending commands of one client.

    `failed` is called for each that fails; `give_up` when the breaker opens, and at once when the server refuses a
    command for a reason that holds for all writes.

    Attributes:
        wakeup: set when there is something to send.
        is_blocked: set by the sender while the store accepts no bytes; the deadline of a command then runs at once.
        replied_at: when the last reply came, in monotonic seconds.
    """

    def __init__(
        self,
        breaker: Breaker,
        failed: Callable[[StoreFailure], None],
        give_up: Callable[[StoreError], None],
        repair: KeyRepair | None = None,
    ) -> None:
        self._breaker = breaker
        self._failed = failed
        self._give_up = give_up
        self._repair = repair
        self._queued: list[_Pending] = []
        self._sent: deque[_Pending] = deque()
        self.wakeup = asyncio.Event()
        self.is_blocked = False
        self.replied_at = 0.0

    def __len__(self) -> int:
        return len(self._queued) + len(self._sent)

    @property
    def has_waiters(self) -> bool:
        return any(not pending.reply.done() for pending in (*self._queued, *self._sent))

    def add(self, command: Command, timeout: float, on_late_reply: OnLateReply | None) -> asyncio.Future[Any]:
        """Queue a command; the future gets its reply, or a `StoreError`, at most `timeout` seconds after it is sent.

        `on_late_reply` gets a reply that comes after that, or after the future was cancelled.

        Raises:
            StoreError: the queue is full, or `timeout` is 0.
        """
        if timeout <= 0:
            raise StoreError("timeout")
        if len(self) >= MAX_PENDING:
            raise StoreError("overflow")
        pending = _Pending(command, timeout, on_late_reply)
        if self.is_blocked:
            self._start_timer(pending)
        self._queued.append(pending)
        self.wakeup.set()
        return pending.reply

    def next_batch(self) -> list[tuple[Word, ...]]:
        """The commands to send now; their deadlines run from here. Those that nothing awaits any more are dropped."""
        self.wakeup.clear()
        queued, self._queued = [pending for pending in self._queued if not pending.reply.done()], []
        for pending in queued:
            self._start_timer(pending)
        self._sent.extend(queued)
        return [pending.command.words for pending in queued]

    def on_reply(self, reply: Any) -> None:
        """Take the next reply.

        Raises:
            StoreError: no command was sent for it.
        """
        if not self._sent:
            raise StoreError("reply")
        pending = self._sent.popleft()
        if isinstance(reply, NoScript) and pending.command.script:
            pending.command = Command(pending.command.in_full)
            self._queued.append(pending)
            self.wakeup.set()
            return
        if isinstance(reply, ErrorReply) and reply.is_of_a_key and self._repeat_repaired(pending):
            return
        self.replied_at = monotonic()
        if pending.timer is not None:
            pending.timer.cancel()
        if isinstance(reply, ErrorReply | NoScript):
            self._on_error(pending, reply)
        elif not pending.reply.done():
            self._breaker.succeeded()
            pending.reply.set_result(reply)
        elif pending.on_late_reply is not None:
            pending.on_late_reply(reply)

    def _on_error(self, pending: _Pending, reply: ErrorReply | NoScript) -> None:
        """A refusal counts at once: replies to reads in between would keep the breaker closed for ever.

        What is wrong with a key counts for the command alone: the store has answered.
        """
        if pending.is_repair:
            pending.fail("key")
        elif isinstance(reply, ErrorReply) and reply.is_of_a_key:
            self._breaker.succeeded()
            if self._repair is not None:
                self._repair.failed(pending.command)
            if not pending.reply.done():
                self._failed("key")
            pending.fail("key")
        elif isinstance(reply, ErrorReply) and reply.is_refusal:
            if not pending.reply.done():
                self._failed("reply")
            pending.fail("reply")
            self._give_up(StoreError("reply", reply.word))
        elif not pending.reply.done():
            self._fail(pending, "reply")

    def _repeat_repaired(self, pending: _Pending) -> bool:
        """Send a command again, once, behind one that mends its keys; returns whether that was done."""
        if self._repair is None or pending.is_repeated or not pending.command.keys:
            return False
        pending.is_repeated = True
        repair = _Pending(self._repair.command(pending.command), STORE_TIMEOUT, None)
        repair.is_repair = True
        repair.reply.add_done_callback(self._repair.on_reply(pending.command))
        self._queued += [repair, pending]
        self.wakeup.set()
        return True

    def fail_all(self, kind: StoreFailure) -> None:
        """Fail everything that is pending: no more replies will come."""
        all_pending = [*self._sent, *self._queued]
        self._sent.clear()
        self._queued.clear()
        for pending in all_pending:
            if not pending.reply.done():
                self._failed(kind)
            pending.fail(kind)
        self.wakeup.set()

    def _start_timer(self, pending: _Pending) -> None:
        if pending.timer is None:
            loop = asyncio.get_running_loop()
            pending.timer = loop.call_later(pending.timeout, self._on_deadline, pending, LOOP_PASSES)

    def _on_deadline(self, pending: _Pending, passes: int) -> None:
        if pending.reply.done():
            return
        if passes:
            asyncio.get_running_loop().call_soon(self._on_deadline, pending, passes - 1)
        else:
            self._fail(pending, "timeout")

    def _fail(self, pending: _Pending, kind: StoreFailure) -> None:
        self._failed(kind)
        pending.fail(kind)
        if self._breaker.failed():
            self._give_up(StoreError(kind))


class _Pending:
    """A command that has no reply yet."""

    __slots__ = ("command", "is_repair", "is_repeated", "on_late_reply", "reply", "timeout", "timer")

    def __init__(self, command: Command, timeout: float, on_late_reply: OnLateReply | None) -> None:
        self.command = command
        self.timeout = timeout
        self.on_late_reply = on_late_reply
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None
        self.is_repair = self.is_repeated = False

    def fail(self, kind: StoreFailure) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if not self.reply.done():
            self.reply.set_exception(StoreError(kind))


class Breaker:
    """Opens after `FAILURES` in a row, and computes growing pauses between attempts to reconnect."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._up_since: float | None = None

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> bool:
        """Count a late or error reply; returns whether the connection is to be dropped."""
        self._failures += 1
        return self._failures >= FAILURES

    def came_up(self, now: float) -> None:
        self._failures = 0
        self._up_since = now

    def pause(self, now: float, random: float) -> float:
        """Seconds before the next attempt. `random`: 0 to 1, so that processes do not reconnect all at once."""
        if self._up_since is not None and now - self._up_since >= STEADY:
            self._pause = FIRST_PAUSE
        self._up_since = None
        pause, self._pause = self._pause, min(MAX_PAUSE, 2 * self._pause)
        return pause * (0.5 + random / 2)
