"""Predictions: who may, what streams, and what is never answered."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from aiohttp import web

from gateway.simulator.answers import Call
from gateway.simulator.flows import Flow, is_flow_id
from gateway.simulator.ledger import Ledger
from gateway.simulator.rates import FixedWindow
from gateway.simulator.replies import HTML, Refusal, Responder
from gateway.simulator.requests import ReceivedRequest
from gateway.simulator.runs import Run, Surroundings
from gateway.simulator.steps import Steps
from gateway.simulator.streams import EventStream, cut

Script = Callable[[ReceivedRequest], Steps | None]


@dataclass
class State:
    """What predictions share.

    Attributes:
        flows: by id, lower case.
        scripts: what runs do instead of what the question asks for, by flow id; under "" for all others.
        files: uploads by chatflow id, chat id and name.
        messages: ids of the answers so far, which feedback may name.
        pool: runs that can be aborted, by chatflow id and chat id.
    """

    flows: Mapping[str, Flow]
    ledger: Ledger
    around: Surroundings
    windows: Mapping[str, FixedWindow]
    scripts: dict[str, Script] = field(default_factory=dict)
    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    messages: set[str] = field(default_factory=set)
    pool: dict[tuple[str, str], Run] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self, run: Run) -> None:
        """Let a run go on by itself, whatever becomes of its caller."""
        self.ledger.runs.append(run)
        self.messages.add(run.call.message_id)
        self.pool[run.flow.id, str(run.chat_id)] = run
        task = asyncio.ensure_future(self._watch(run, run.live(self._script(run.asked))))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _watch(self, run: Run, life: Coroutine[Any, Any, None]) -> None:
        try:
            await life
        finally:
            if self.pool.get((run.flow.id, str(run.chat_id))) is run:
                del self.pool[run.flow.id, str(run.chat_id)]

    def _script(self, asked: ReceivedRequest) -> Steps | None:
        script = self.scripts.get(asked.flow) or self.scripts.get("")
        return script(asked) if script else None


async def predict(desk: State, visit: Responder, asked: ReceivedRequest) -> web.StreamResponse:
    """Answer a prediction.

    Raises:
        Refusal: answered with JSON, or never if streaming was asked for (capture unknown-stream).
    """
    window = desk.windows.get(asked.flow)
    if window is not None:
        left = window.spend(asked)
        visit.base += window.headers(left)
        if left < 0:
            return visit.send(HTML, _limit_message(desk, asked), 429)
    flow = _flow(desk, asked.flow)
    origin = asked.headers.get("Origin")
    if origin and not _is_allowed(flow, origin):
        if asked.is_streaming:
            return visit.send(HTML, flow.origins_error.encode(), 403)
        raise Refusal(403, flow.origins_error)
    _keep_uploads(desk, asked)
    run = Run(Call.of(asked, flow), desk.around)
    return await (_stream(desk, visit, run) if run.call.is_streaming else _answer(desk, visit, run))


def _limit_message(desk: State, asked: ReceivedRequest) -> bytes:
    limit = desk.flows[asked.flow].rate_limit
    return limit.message.encode() if limit else b""


def _flow(desk: State, flow_id: str) -> Flow:
    if not flow_id:
        raise Refusal(412, "Error: predictionsController.createPrediction - id not provided!")
    if not is_flow_id(flow_id):
        raise Refusal(400, "Invalid Chatflow ID")
    if flow_id not in desk.flows:
        raise Refusal(404, f"Chatflow {flow_id} not found in the database!")
    return desk.flows[flow_id]


def _is_allowed(flow: Flow, origin: str) -> bool:
    try:
        return flow.allows(origin)
    except ValueError as error:
        raise Refusal(500, str(error)) from error


def _keep_uploads(desk: State, asked: ReceivedRequest) -> None:
    """Store what a prediction brings along, for `get-upload-file` (capture upload-in-prediction)."""
    uploads = asked.fields.get("uploads")
    for upload in uploads if isinstance(uploads, list) else ():
        data = str(upload.get("data", "")).partition(",")[2]
        name = (asked.flow, str(asked.fields.get("chatId")), str(upload.get("name")))
        desk.files[name] = base64.b64decode(data + "==")


async def _stream(desk: State, visit: Responder, run: Run) -> web.StreamResponse:
    """The head at once; then the run says what it says, and may find somebody else under its chat id."""
    stream = EventStream(visit.request, visit.base)
    await stream.open()
    desk.around.streams.add(run.chat_id, stream)
    desk.start(run)
    try:
        await stream.ended()
    except asyncio.CancelledError:
        run.leave()
        raise
    return stream


async def _answer(desk: State, visit: Responder, run: Run) -> web.StreamResponse:
    """The JSON answer when the run has ended."""
    desk.start(run)
    try:
        await run.done.wait()
    except asyncio.CancelledError:
        run.leave()
        raise
    if run.closed or run.outcome == "stopped":
        await _vanish(visit, run)
    if run.failure:
        raise Refusal(500, run.failure)
    return visit.json(run.answer())


async def _vanish(visit: Responder, run: Run) -> NoReturn:
    """Close the connection without an answer; the handler ends by being cancelled."""
    cut(visit.request.transport, "rst" if run.closed and run.closed.how == "rst" else "fin")
    await silence()


async def silence() -> NoReturn:
    """Say nothing, for as long as the connection lives."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nobody has this future")
