"""One prediction inside Flowise; it runs to its end with or without a client."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Literal

from gateway.simulator import agentflow, answers
from gateway.simulator.answers import Failure, PredictionCall
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

RunOutcome = Literal["", "complete", "failed", "aborted", "cut", "stopped"]


class ModelFailed(Exception):
    """A `Fail` step, with its message."""


class SimulatedRun:
    """One run of a chatflow.

    Attributes:
        outcome: how it ended; empty while it runs. `stopped`: the simulator was stopped first.
        events: count by name, received or not, without heartbeats and raw bytes; empty if it is not streamed.
        failure: Flowise's error message if it failed.
        closed: the `Close` step that ended it, if one did.
        done: set when it has ended.
        client_left: set when its client disconnected before that.
    """

    def __init__(
        self,
        call: PredictionCall,
        streams: Streams,
        sleep: Callable[[float], Awaitable[object]],
        on_change: Callable[[], None],
        api_key: str,
    ) -> None:
        """`sleep`: how the model's time passes, in seconds. `api_key`: of protected flows."""
        self.call = call
        self._streams = streams
        self._sleep = sleep
        self._on_change = on_change
        self._api_key = api_key
        self.outcome: RunOutcome = ""
        self.events: Counter[str] = Counter()
        self.failure = ""
        self.closed: Close | None = None
        self.done = asyncio.Event()
        self.client_left = asyncio.Event()
        self._parts: list[str] = []
        self._members: dict[str, Any] = {}  # events that a JSON answer has, too
        self._began = 0
        self._is_aborted = False
        self._steps_task: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        left = ", client left" if self.client_left.is_set() else ""
        return f"<SimulatedRun {self.flow.name} {self.chat_id!r} {self.outcome or 'running'}{left} {dict(self.events)}>"

    @property
    def request(self) -> ReceivedRequest:
        return self.call.request

    @property
    def flow(self) -> Flow:
        return self.call.flow

    @property
    def chat_id(self) -> Any:
        return self.call.chat_id

    def answer(self) -> dict[str, Any]:
        """The JSON answer of a completed run that was not streamed."""
        return answers.answer(self.call, self._parts, self._members, self._completion())

    def abort(self) -> None:
        """Abort an agentflow; chains ignore the signal (capture abort-chain)."""
        if not self.call.is_agentflow or self.done.is_set():
            return
        self._is_aborted = True
        if self._steps_task is not None:
            self._steps_task.cancel()

    def client_disconnected(self) -> None:
        """Note it; the run goes on (capture hangup-chain)."""
        if not self.done.is_set():
            self.client_left.set()
            self._on_change()

    async def run(self, script: Steps | None) -> None:
        """SimulatedRun from the first step to the end; without a script, do what the question asks for."""
        try:
            self.outcome = await self._run(script)
        except asyncio.CancelledError:
            self.outcome = "stopped"
            raise
        finally:
            self.done.set()
            self._on_change()

    async def _run(self, script: Steps | None) -> RunOutcome:
        precondition = answers.precondition(self.call, self._api_key)
        if precondition:
            return await self._fail("failed", precondition)
        steps = answers.default_steps(self.call, self._completion) if script is None else script
        try:
            self._steps_task = asyncio.ensure_future(self._execute(steps))
            await self._steps_task
        except ModelFailed as failed:
            return await self._fail("failed", answers.model_failure(self.call, str(failed)))
        except asyncio.CancelledError:
            if not self._is_aborted:
                raise
            return await self._fail("aborted", answers.model_failure(self.call, answers.ABORTED))
        return "cut" if self.closed else await self._complete()

    async def _execute(self, steps: Steps) -> None:
        self._began = _now()
        async with aclosing(_each(steps)) as each:
            async for step in each:
                await self._execute_step(step)
                if self.closed:
                    return

    async def _execute_step(self, step: Step) -> None:
        match step:
            case Token(text):
                self._parts.append(text)
                await self._send(Event("token", text))
            case Event():
                await self._send(step)
            case Delay(seconds):
                await self._sleep(seconds)
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
            self._streams.end(self.chat_id)
        else:
            self._streams.cut(self.chat_id, step.how)

    async def _fail(self, outcome: RunOutcome, failure: Failure) -> RunOutcome:
        for event in failure.events:
            await self._send(event)
        self.failure = failure.message
        await self._send(Event("error", failure.message))
        await self._end()
        return outcome

    async def _complete(self) -> RunOutcome:
        await self._send(answers.metadata(self.call))
        await self._end()
        return "complete"

    async def _end(self) -> None:
        await self._send(Event("end", "[DONE]"))
        if self.call.is_streaming:
            self._streams.end(self.chat_id)

    async def _send(self, event: Event) -> None:
        if event.name in answers.MEMBERS:
            self._members[event.name] = event.data
        if self.call.is_streaming:
            self.events[event.name] += 1
            await self._write(frame(event))

    async def _write(self, data: bytes) -> None:
        if self.call.is_streaming:
            await self._streams.write(self.chat_id, data)

    def _completion(self) -> agentflow.Completion:
        parts = tuple(self._parts)
        return agentflow.Completion(self.call.to_model, parts, self._began, _now(), self.call.is_streaming)


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
    """Milliseconds since the Unix epoch."""
    return int(time.time() * 1000)
