"""Commands on their way to the shared store and their answers, in order; nobody waits longer than allowed.

No socket is here: the link takes what is to be sent, and brings the answers. A late answer is known for what it is.
A deadline that passed while this process was busy is believed only after the loop has read what is there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from gateway.admission.redis.commands import Command, Word
from gateway.admission.store import ErrorReply, Failure, NoScript, StoreError

FAILURES = 3  # in a row, and the store counts as away
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
STEADY = 10.0  # up for so long: the next pause is the first one again


class Breaker:
    """Counts failures in a row, and spaces the attempts to come back, further apart while they fail."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._up_since: float | None = None

    def succeeded(self) -> None:
        """An answer came in time."""
        self._failures = 0

    def failed(self) -> bool:
        """An answer did not come in time, or was an error; tells whether the store is to be left alone."""
        self._failures += 1
        return self._failures >= FAILURES

    def came_up(self, now: float) -> None:
        """The store answers again."""
        self._failures = 0
        self._up_since = now

    def pause(self, now: float, chance: float) -> float:
        """How long to wait before the next attempt. `chance`: 0 to 1, so that replicas do not come all at once."""
        if self._up_since is not None and now - self._up_since >= STEADY:
            self._pause = FIRST_PAUSE
        self._up_since = None
        pause, self._pause = self._pause, min(LONGEST_PAUSE, 2 * self._pause)
        return pause * (0.5 + chance / 2)


MOST_CALLS = 10_000  # on their way at once
PASSES = 5  # of the loop

OnLateReply = Callable[[Any], None]


class _Pending:
    """A command on its way; `late` takes an answer for which nobody waits any more."""

    __slots__ = ("answer", "command", "late", "timer", "within")

    def __init__(self, command: Command, within: float, late: OnLateReply | None) -> None:
        self.command = command
        self.within = within
        self.late = late
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None

    def fail(self, kind: Failure) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if not self.answer.done():
            self.answer.set_exception(StoreError(kind))


class RequestQueue:
    """All calls of one link. `failed` is told of each that fails, `give_up` when the breaker says so.

    Attributes:
        something: set when there is something to be sent.
        is_stuck: set by who sends, while the store takes no bytes: then the time of a call runs at once.
        answered_at: when the last answer came, in monotonic seconds.
    """

    def __init__(
        self, breaker: Breaker, failed: Callable[[Failure], None], give_up: Callable[[Failure], None]
    ) -> None:
        self._breaker = breaker
        self._failed = failed
        self._give_up = give_up
        self._queued: list[_Pending] = []
        self._sent: deque[_Pending] = deque()
        self.something = asyncio.Event()
        self.is_stuck = False
        self.answered_at = 0.0

    def __len__(self) -> int:
        return len(self._queued) + len(self._sent)

    @property
    def has_waiting(self) -> bool:
        """Whether anybody waits for an answer."""
        return any(not call.answer.done() for call in (*self._queued, *self._sent))

    def add(self, command: Command, within: float, late: OnLateReply | None) -> asyncio.Future[Any]:
        """Queue a command; the future has its answer, or a `StoreError`, `within` seconds after it was sent.

        Raises:
            StoreError: too much is on its way, or there is no time.
        """
        if within <= 0:
            raise StoreError("timeout")
        if len(self) >= MOST_CALLS:
            raise StoreError("overflow")
        call = _Pending(command, within, late)
        if self.is_stuck:
            self._start(call)
        self._queued.append(call)
        self.something.set()
        return call.answer

    def sending(self) -> list[tuple[Word, ...]]:
        """What is to be sent now; its time runs from here. What nobody waits for any more is left out."""
        self.something.clear()
        queued, self._queued = [call for call in self._queued if not call.answer.done()], []
        for call in queued:
            self._start(call)
        self._sent.extend(queued)
        return [call.command.words for call in queued]

    def take(self, answer: Any) -> None:
        """The next answer has come.

        Raises:
            StoreError: nothing was asked.
        """
        if not self._sent:
            raise StoreError("reply")
        call = self._sent.popleft()
        if isinstance(answer, NoScript) and call.command.script:
            call.command = Command(call.command.in_full)
            self._queued.append(call)
            self.something.set()
            return
        self.answered_at = monotonic()
        is_refused = isinstance(answer, ErrorReply | NoScript)
        if call.answer.done():
            if call.late is not None and not is_refused:
                call.late(answer)
        elif is_refused:
            self._fail(call, "reply")
        else:
            self._breaker.succeeded()
            call.answer.set_result(answer)
        if call.timer is not None:
            call.timer.cancel()

    def drop(self, kind: Failure) -> None:
        """There will be no more answers: tell everybody who waits."""
        waiting = [*self._sent, *self._queued]
        self._sent.clear()
        self._queued.clear()
        for call in waiting:
            if not call.answer.done():
                self._failed(kind)
            call.fail(kind)
        self.something.set()

    def _start(self, call: _Pending) -> None:
        if call.timer is None:
            loop = asyncio.get_running_loop()
            call.timer = loop.call_later(call.within, self._is_due, call, PASSES)

    def _is_due(self, call: _Pending, passes: int) -> None:
        if call.answer.done():
            return
        if passes:
            asyncio.get_running_loop().call_soon(self._is_due, call, passes - 1)
        else:
            self._fail(call, "timeout")

    def _fail(self, call: _Pending, kind: Failure) -> None:
        self._failed(kind)
        call.fail(kind)
        if self._breaker.failed():
            self._give_up(kind)
