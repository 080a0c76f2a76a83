"""One prediction inside Flowise: it goes on to its end whether or not anybody listens."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from gateway.simulator import agentflow, answers
from gateway.simulator.answers import Call, Failure
from gateway.simulator.flows import Flow
from gateway.simulator.requests import ReceivedRequest
from gateway.simulator.steps import (
    HEARTBEAT,
    Close,
    Delay,
    Event,
    Fail,
    Hang,
    Heartbeat,
    Raw,
    Step,
    Steps,
    Token,
    Wait,
    frame,
)
from gateway.simulator.streams import Streams

Outcome = Literal["", "complete", "failed", "aborted", "cut", "stopped"]


@dataclass(frozen=True)
class Surroundings:
    """What a run needs of the server.

    Attributes:
        sleep: how the model's time passes, seconds.
        noted: called whenever something about the run changed.
        key: what a protected flow asks for.
    """

    streams: Streams
    sleep: Callable[[float], Awaitable[object]]
    noted: Callable[[], None]
    key: str


class ModelFailed(Exception):
    """The model's step failed with this message."""


class Run:
    """One run; its task is `live()`.

    Attributes:
        outcome: how it ended; empty while it runs. `stopped`: the simulator went down under it.
        events: how many it said under each name, heard or not, heartbeats and raw bytes apart; none
            if it is not streamed.
        failure: what its caller is told if it failed.
        closed: the `Close` that ended it, if one did.
        done: set when it has ended.
        client_left: set when its caller hung up before that.
    """

    def __init__(self, call: Call, around: Surroundings) -> None:
        self.call = call
        self.outcome: Outcome = ""
        self.events: Counter[str] = Counter()
        self.failure = ""
        self.closed: Close | None = None
        self.done = asyncio.Event()
        self.client_left = asyncio.Event()
        self._around = around
        self._parts: list[str] = []
        self._began = 0
        self._is_aborted = False
        self._performance: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        left = ", client left" if self.client_left.is_set() else ""
        return (
            f"<Run {self.flow.name} {self.chat_id!r} {self.outcome or 'running'}{left} {dict(self.events)}>"
        )

    @property
    def asked(self) -> ReceivedRequest:
        """The request that started it."""
        return self.call.asked

    @property
    def flow(self) -> Flow:
        """The chatflow that runs."""
        return self.call.flow

    @property
    def chat_id(self) -> Any:
        """The conversation's id, whoever chose it."""
        return self.call.chat_id

    def answer(self) -> dict[str, Any]:
        """Give the JSON answer of a run that is complete and was not streamed."""
        return answers.answer(self.call, self._parts, self._turn())

    def abort(self) -> None:
        """End it early; chains do not look at the signal (capture abort-chain)."""
        if not self.call.is_agentflow or self.done.is_set():
            return
        self._is_aborted = True
        if self._performance is not None:
            self._performance.cancel()

    def leave(self) -> None:
        """Its caller hung up; the run goes on (capture hangup-chain)."""
        if not self.done.is_set():
            self.client_left.set()
            self._around.noted()

    async def live(self, script: Steps | None) -> None:
        """Run from the first step to the end; without a script it does what the question asks for."""
        try:
            self.outcome = await self._ending(script)
        except asyncio.CancelledError:
            self.outcome = "stopped"
            raise
        finally:
            self.done.set()
            self._around.noted()

    async def _ending(self, script: Steps | None) -> Outcome:
        precondition = answers.precondition(self.call, self._around.key)
        if precondition:
            return await self._fail("failed", precondition)
        steps = answers.default(self.call, self._turn) if script is None else script
        try:
            self._performance = asyncio.ensure_future(self._perform(steps))
            await self._performance
        except ModelFailed as failed:
            return await self._fail("failed", answers.mishap(self.call, str(failed)))
        except asyncio.CancelledError:
            if not self._is_aborted:
                raise
            return await self._fail("aborted", answers.mishap(self.call, answers.ABORTED))
        return "cut" if self.closed else await self._complete()

    async def _perform(self, steps: Steps) -> None:
        self._began = _now()
        async with aclosing(_each(steps)) as each:
            async for step in each:
                await self._do(step)
                if self.closed:
                    return

    async def _do(self, step: Step) -> None:
        match step:
            case Token(text):
                self._parts.append(text)
                await self._tell(Event("token", text))
            case Event():
                await self._tell(step)
            case Delay(seconds):
                await self._around.sleep(seconds)
            case Wait(event):
                await event.wait()
            case Heartbeat():
                await self._write(HEARTBEAT)
            case Raw(data):
                await self._write(data)
            case Fail(message):
                raise ModelFailed(message)
            case Close():
                self._close(step)
            case Hang():
                await asyncio.get_running_loop().create_future()

    def _close(self, step: Close) -> None:
        self.closed = step
        if not self.call.is_streaming:
            return
        if step.how == "clean":
            self._around.streams.end(self.chat_id)
        else:
            self._around.streams.cut(self.chat_id, step.how)

    async def _fail(self, outcome: Outcome, mishap: Failure) -> Outcome:
        for event in mishap.events:
            await self._tell(event)
        self.failure = mishap.told
        await self._tell(Event("error", mishap.told))
        await self._end()
        return outcome

    async def _complete(self) -> Outcome:
        await self._tell(answers.metadata(self.call))
        await self._end()
        return "complete"

    async def _end(self) -> None:
        await self._tell(Event("end", "[DONE]"))
        if self.call.is_streaming:
            self._around.streams.end(self.chat_id)

    async def _tell(self, event: Event) -> None:
        if self.call.is_streaming:
            self.events[event.name] += 1
            await self._write(frame(event))

    async def _write(self, data: bytes) -> None:
        if self.call.is_streaming:
            await self._around.streams.say(self.chat_id, data)

    def _turn(self) -> agentflow.Turn:
        parts = tuple(self._parts)
        return agentflow.Turn(self.call.to_model, parts, self._began, _now(), self.call.is_streaming)


async def _each(steps: Steps) -> AsyncGenerator[Step, None]:
    if isinstance(steps, AsyncGenerator):
        async with aclosing(steps):
            async for step in steps:
                yield step
    elif isinstance(steps, AsyncIterable):
        async for step in steps:
            yield step
    else:
        for step in steps:
            yield step


def _now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
