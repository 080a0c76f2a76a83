"""Predictions: access checks, streamed and JSON answers, and requests that are never answered."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from aiohttp import web

from gateway.simulator.answers import PredictionCall
from gateway.simulator.flows import Flow, is_flow_id
from gateway.simulator.rates import FixedWindow
from gateway.simulator.replies import HTML, FlowiseError, Responder
from gateway.simulator.requests import ReceivedRequest
from gateway.simulator.runs import SimulatedRun
from gateway.simulator.steps import Steps
from gateway.simulator.streams import EventStream, Streams, cut

Script = Callable[[ReceivedRequest], Steps | None]


@dataclass
class State:
    """What all requests share.

    Attributes:
        flows: by id, lower case.
        streams: open event streams.
        sleep: how the model's time passes; takes seconds.
        api_key: of protected flows; empty: no request has it.
        version: as Flowise reports it.
        windows: rate limits by chatflow id.
        scripts: what runs do instead of what the question asks for, by flow id; under "" for all others.
        files: uploads by chatflow id, chat id and name.
        messages: ids of the answers so far, which feedback may refer to.
        feedback: what was stored, by its id.
        speech: what is being read aloud, by chat id and message id; set: it was aborted.
        speech_aborts: chat id and message id of every abort of speech.
        pool: runs that can be aborted, by chatflow id and chat id.
        requests: every request, in the order in which their bodies were read.
        aborts: chatflow id and chat id of every abort, with or without effect.
        runs: every prediction that reached a flow.
    """

    flows: Mapping[str, Flow]
    streams: Streams
    sleep: Callable[[float], Awaitable[object]]
    api_key: str
    windows: Mapping[str, FixedWindow]
    version: str = "3.1.4"
    scripts: dict[str, Script] = field(default_factory=dict)
    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    messages: set[str] = field(default_factory=set)
    feedback: dict[str, dict[str, Any]] = field(default_factory=dict)
    speech: dict[tuple[Any, Any], asyncio.Event] = field(default_factory=dict)
    speech_aborts: list[tuple[str, str]] = field(default_factory=list)
    pool: dict[tuple[str, str], SimulatedRun] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    requests: list[ReceivedRequest] = field(default_factory=list)
    aborts: list[tuple[str, str]] = field(default_factory=list)
    runs: list[SimulatedRun] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def notify(self) -> None:
        """Let every `until` check its condition again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is checked at every change."""
        while not condition():
            await self._changed.wait()

    def start(self, call: PredictionCall) -> SimulatedRun:
        """Start a run, which goes on without its client."""
        run = SimulatedRun(call, self.streams, self.sleep, self.notify, self.api_key)
        self.runs.append(run)
        self.messages.add(call.message_id)
        self.pool[run.flow.id, str(run.chat_id)] = run
        task = asyncio.ensure_future(self._run(run, self._script(call.request)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return run

    async def _run(self, run: SimulatedRun, script: Steps | None) -> None:
        try:
            await run.run(script)
        finally:
            if self.pool.get((run.flow.id, str(run.chat_id))) is run:
                del self.pool[run.flow.id, str(run.chat_id)]

    def _script(self, request: ReceivedRequest) -> Steps | None:
        script = self.scripts.get(request.flow) or self.scripts.get("")
        return script(request) if script else None


async def predict(state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """Answer a prediction.

    Raises:
        FlowiseError: answered with JSON, or never if a stream was requested (capture unknown-stream).
    """
    window = state.windows.get(request.flow)
    if window is not None:
        left = window.spend(request)
        responder.base += window.headers(left)
        if left < 0:
            return responder.send(HTML, _limit_message(state, request), 429)
    flow = _flow(state, request.flow)
    origin = request.headers.get("Origin")
    if origin and not _is_allowed(flow, origin):
        if request.is_streaming:
            return responder.send(HTML, flow.origins_error.encode(), 403)
        raise FlowiseError(403, flow.origins_error)
    _keep_uploads(state, request)
    call = PredictionCall.of(request, flow)
    return await (_stream(state, responder, call) if call.is_streaming else _answer(state, responder, call))


def _limit_message(state: State, request: ReceivedRequest) -> bytes:
    limit = state.flows[request.flow].rate_limit
    return limit.message.encode() if limit else b""


def _flow(state: State, flow_id: str) -> Flow:
    if not flow_id:
        raise FlowiseError(412, "Error: predictionsController.createPrediction - id not provided!")
    if not is_flow_id(flow_id):
        raise FlowiseError(400, "Invalid Chatflow ID")
    if flow_id not in state.flows:
        raise FlowiseError(404, f"Chatflow {flow_id} not found in the database!")
    return state.flows[flow_id]


def _is_allowed(flow: Flow, origin: str) -> bool:
    try:
        return flow.allows(origin)
    except ValueError as error:
        raise FlowiseError(500, str(error)) from error


def _keep_uploads(state: State, request: ReceivedRequest) -> None:
    """Store the uploads of a prediction for `get-upload-file` (capture upload-in-prediction)."""
    uploads = request.fields.get("uploads")
    for upload in uploads if isinstance(uploads, list) else ():
        data = str(upload.get("data", "")).partition(",")[2]
        name = (request.flow, str(request.fields.get("chatId")), str(upload.get("name")))
        state.files[name] = base64.b64decode(data + "==")


async def _stream(state: State, responder: Responder, call: PredictionCall) -> web.StreamResponse:
    """Send the head at once. The run writes to whichever stream has its chat id, which may be a newer one."""
    stream = EventStream(responder.request, responder.base)
    await stream.open()
    state.streams.add(call.chat_id, stream)
    run = state.start(call)
    try:
        await stream.ended()
    except asyncio.CancelledError:
        run.client_disconnected()
        raise
    return stream


async def _answer(state: State, responder: Responder, call: PredictionCall) -> web.StreamResponse:
    """Answer with JSON when the run has ended."""
    run = state.start(call)
    try:
        await run.done.wait()
    except asyncio.CancelledError:
        run.client_disconnected()
        raise
    if run.closed or run.outcome == "stopped":
        await _disconnect(responder, run)
    if run.failure:
        raise FlowiseError(500, run.failure)
    return responder.json(run.answer())


async def _disconnect(responder: Responder, run: SimulatedRun) -> NoReturn:
    """Close the connection without an answer; aiohttp then cancels the handler."""
    cut(responder.request.transport, "rst" if run.closed and run.closed.how == "rst" else "fin")
    await never_answer()


async def never_answer() -> NoReturn:
    """Send nothing until the connection closes and aiohttp cancels the handler."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("The future is never resolved.")
