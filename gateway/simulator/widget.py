"""What the widget calls beside predictions and files: changed feedback, speech, documents, icons."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.simulator.flows import Flow
from gateway.simulator.predictions import State
from gateway.simulator.replies import HTML, FlowiseError, Responder, UnsizedReply, date
from gateway.simulator.requests import ReceivedRequest
from gateway.simulator.steps import stringify

PART = 640  # bytes of sound in one event
PARTS_PER_SECOND = 25
_SECONDS = re.compile(r"\[\[seconds=([\d.]+)\]\]")
_ICONS = ("chatOpenAI", "conversationChain", "bufferMemory")
_SVG = b'<svg width="32" height="32" xmlns="http://www.w3.org/2000/svg"><circle cx="16" cy="16" r="9"/></svg>'


async def change_feedback(state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """Captures feedback-change, feedback-change-unknown: every field of the body becomes a column."""
    name = request.path.rpartition("/")[2]
    if name not in state.feedback:
        raise FlowiseError(404, f"Feedback with ID {name} not found")
    state.feedback[name] |= request.fields
    return responder.json({"status": "OK"})


async def speech(state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """Captures speech, speech-aborted, speech-no-text, speech-not-configured, speech-unknown: always 200."""
    head = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")]
    stream = UnsizedReply([*responder.base, *head, ("Connection", "keep-alive"), date()])
    await stream.prepare(responder.request)
    error = _error(state, request)
    if error:
        await stream.write(_event("tts_error", {"error": error}))
        return stream
    message, chat = request.fields.get("chatMessageId"), request.fields.get("chatId")
    stopped = state.speech[chat, message] = asyncio.Event()
    try:
        await stream.write(_event("tts_start", {"chatMessageId": message, "format": "mp3"}))
        for at in range(_parts(str(request.fields["text"]))):
            await _pause(state, stopped)
            if stopped.is_set():
                await stream.write(_event("tts_error", {"error": "TTS generation aborted"}))
                return stream
            sound = base64.b64encode(bytes([at % 256]) * PART).decode()
            await stream.write(_event("tts_data", {"chatMessageId": message, "audioChunk": sound}))
        await stream.write(_event("tts_end", {"chatMessageId": message}))
    finally:
        state.speech.pop((chat, message), None)
        state.notify()
    return stream


async def abort_speech(state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """Captures speech-abort, speech-abort-incomplete, speech-abort-run: it ends an answer of the chat, too."""
    for name in ("chatId", "chatMessageId", "chatflowId"):
        if not request.fields.get(name):
            error = f"Error: textToSpeechController.abortTextToSpeech - {name} not provided!"
            return responder.json({"error": error}, 500)
    chat, message = request.fields["chatId"], request.fields["chatMessageId"]
    state.speech_aborts.append((chat, message))
    if (stopped := state.speech.get((chat, message))) is not None:
        stopped.set()
    data = {"event": "tts_abort", "data": {"chatMessageId": message}}
    await state.streams.write(chat, b"message:\ndata:" + stringify(data) + b"\n\n")
    state.streams.end(chat)
    state.notify()
    return responder.json(
        {"message": "TTS stream aborted successfully", "chatId": chat, "chatMessageId": message}
    )


async def upsert(state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """Captures vector-upsert, vector-upsert-json, vector-upsert-no-store; without a key it is 401."""
    name = request.path.rpartition("/")[2]
    flow = state.flows.get(name)
    if flow is None:
        raise FlowiseError(404, f"Chatflow {name} not found")
    if not flow.stores:
        raise FlowiseError(500, "Error: vectorsService.upsertVector - No vector node found")
    return responder.json(
        {"numAdded": len(request.files), "addedDocs": [_document(file.content) for file in request.files]}
    )


async def icon(_state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """An icon, or a 500 (captures node-icon, node-icon-unknown)."""
    name = request.path.rpartition("/")[2]
    if name not in _ICONS:
        raise FlowiseError(500, f"Error: nodesService.getSingleNodeIcon - Node {name} not found")
    return responder.file("image/svg+xml", _SVG)


async def assistant_file(state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """Captures assistant-file, assistant-file-missing, assistant-file-no-name."""
    return await stored_file(state, responder, request.fields)


async def stored_file(state: State, responder: Responder, named: Mapping[str, Any]) -> web.StreamResponse:
    """The file that a query or a body names, always as a download."""
    flow_id, chat_id, name = (named.get(key, "") for key in ("chatflowId", "chatId", "fileName"))
    if not (flow_id and chat_id and name):
        return responder.send(HTML, b"Invalid file path", 500)
    responder.base.append(("Content-Disposition", f'attachment; filename="{name}"'))
    content = state.files.get((flow_id, chat_id, name))
    if content is None:
        raise FlowiseError(500, f"File {name} not found")
    return await responder.pour(content)


def _error(state: State, request: ReceivedRequest) -> str:
    if not request.fields.get("text"):
        return "Error: textToSpeechController.generateTextToSpeech - text not provided!"
    flow: Flow | None = state.flows.get(str(request.fields.get("chatflowId")))
    if flow is None:
        return f"Chatflow {request.fields.get('chatflowId')} not found in the database!"
    return "" if flow.speaks else "Cannot convert undefined or null to object"


async def _pause(state: State, stopped: asyncio.Event) -> None:
    """The time of one part, or until it is stopped."""
    waiting = [
        asyncio.ensure_future(state.sleep(1 / PARTS_PER_SECOND)),
        asyncio.ensure_future(stopped.wait()),
    ]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: ".encode() + stringify({"event": name, "data": data}) + b"\n\n"


def _parts(text: str) -> int:
    found = _SECONDS.search(text)
    return int(float(found[1]) * PARTS_PER_SECOND) if found else 2


def _document(content: bytes) -> dict[str, Any]:
    text = content.decode("utf-8", "replace")
    lines = {"from": 1, "to": text.count("\n") + 1}
    return {
        "pageContent": text,
        "metadata": {"source": "blob", "blobType": "", "loc": {"lines": lines}},
    }
