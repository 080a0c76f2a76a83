"""The endpoints other than predictions that the widget and the SDKs call."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from gateway.simulator.chatflow_list import chatflows
from gateway.simulator.flows import Flow
from gateway.simulator.predictions import State, predict
from gateway.simulator.replies import HTML, FlowiseError, Responder
from gateway.simulator.requests import ReceivedRequest
from gateway.simulator.widget import (
    abort_speech,
    assistant_file,
    change_feedback,
    icon,
    speech,
    stored_file,
    upsert,
)

Handler = Callable[[State, Responder, ReceivedRequest], Awaitable[web.StreamResponse]]

_UPLOADS = {
    "isSpeechToTextEnabled": False,
    "isImageUploadAllowed": False,
    "isRAGFileUploadAllowed": False,
    "imgUploadSizeAndTypes": [],
    "fileUploadSizeAndTypes": [],
}


def find(method: str, path: str) -> Handler | None:
    """The handler of a path; None: Flowise serves its user interface there."""
    name, _, rest = path.removeprefix("/api/v1/").partition("/")
    if name in _WITH_ACTION:
        action, _, rest = rest.partition("/")
        name = f"{name}/{action}"
    handler, parts = _TABLE.get((("GET" if method == "HEAD" else method), name), (None, 0))
    given = [part for part in rest.split("/") if part]
    return handler if len(given) == parts or (name == "prediction" and not given) else None


def methods(path: str) -> str:
    """The value of `Allow` for a path: feedback's is captured, others list what the simulator has."""
    if path.startswith("/api/v1/feedback"):
        return "POST,GET,HEAD,PUT"
    return ",".join(method for method in ("POST", "GET", "PUT") if find(method, path))


def is_public(path: str) -> bool:
    """Whether Flowise serves a path without an API key, by prefix (prediction-no-id, unknown-path)."""
    return path.startswith(_PUBLIC)


async def ping(_state: State, responder: Responder, _request: ReceivedRequest) -> web.StreamResponse:
    """Plain text, not JSON (capture ping)."""
    return responder.send(HTML, b"pong")


async def version(state: State, responder: Responder, _request: ReceivedRequest) -> web.StreamResponse:
    """The version that is simulated (capture version)."""
    return responder.json({"version": state.version})


async def is_streaming(state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """Whether a chatflow can stream (capture chatflows-streaming-chain)."""
    flow = _flow(state, request, "chatflowsService.checkIfChatflowIsValidForStreaming")
    return responder.json({"isStreaming": flow.is_streaming})


async def uploads(state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """What a chatflow accepts as uploads (capture chatflows-uploads)."""
    flow = _flow(state, request, "chatflowsService.checkIfChatflowIsValidForUploads")
    return responder.json({**_UPLOADS, **flow.uploads})


async def chatbot_config(state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """Capture public-chatbotConfig-chain: the whole flow, without authentication."""
    flow = _flow(state, request, "chatflowsService.getSinglePublicChatbotConfig")
    uploads = {**_UPLOADS, **flow.uploads}
    rest = {"uploads": uploads, "flowData": flow.public_nodes(), "isTTSEnabled": flow.speaks}
    return responder.json({**flow.chatbot_config, **rest})


async def abort(state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """Capture abort-idle: 200 with or without effect."""
    _, flow_id, chat_id = segments(request.path)
    state.aborts.append((flow_id, chat_id))
    state.notify()
    run = state.pool.get((flow_id, chat_id))
    if run is not None:
        run.abort()
    return responder.json({"status": 200, "message": "Chat message aborted"})


async def feedback(state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """Captures feedback, feedback-no-content, feedback-unknown-message."""
    message = request.fields.get("messageId")
    if not message:
        raise FlowiseError(400, "Message ID is required")
    if message not in state.messages:
        raise FlowiseError(404, f"Message with ID {message} not found")
    names = ("chatId", "messageId", "rating", "content")
    stored = {name: request.fields.get(name) for name in names}
    answer = {"chatflowid": segments(request.path)[0], **stored, **_stored()}
    state.feedback[answer["id"]] = answer
    return responder.json(answer)


async def leads(_state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """Captures leads, leads-slash, leads-empty, leads-partial."""
    if "chatflowid" not in request.fields:
        detail = "SQLITE_CONSTRAINT: NOT NULL constraint failed: lead.chatflowid"
        raise FlowiseError(500, f"Error: leadsService.createLead - {detail}")
    names = ("name", "email", "phone", "chatflowid", "chatId")
    stored = {name: request.fields[name] for name in names if name in request.fields}
    return responder.json({**stored, **_stored()})


async def attachments(state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """Captures attachments-off, attachments-unknown; with files, the answer that the widget expects."""
    flow = _flow(state, request, "attachmentService.createAttachment")
    if not flow.may_upload:
        raise FlowiseError(
            500, "Error: attachmentService.createAttachment - File upload is not enabled for this chatflow"
        )
    for file in request.files:
        state.files[flow.id, segments(request.path)[1], file.name] = file.content
    return responder.json(
        [
            {
                "name": file.name,
                "mimeType": file.content_type,
                "size": len(file.content),
                "content": file.content.decode("utf-8", "replace"),
            }
            for file in request.files
        ]
    )


async def upload_file(state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """Captures get-upload-file, get-upload-file-missing, get-upload-file-no-name."""
    return await stored_file(state, responder, request.query)


def segments(path: str) -> list[str]:
    """The decoded parts of a path after the endpoint's name."""
    return [unquote(part) for part in path.removeprefix("/api/v1/").split("/")[1:] if part]


def _flow(state: State, request: ReceivedRequest, service: str) -> Flow:
    flow_id = segments(request.path)[0]
    if flow_id not in state.flows:
        raise FlowiseError(500, f"Error: {service} - Chatflow {flow_id} not found")
    return state.flows[flow_id]


def _stored() -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {"id": str(uuid.uuid4()), "createdDate": now}


_TABLE: dict[tuple[str, str], tuple[Handler, int]] = {
    ("POST", "prediction"): (predict, 1),
    ("PUT", "chatmessage"): (abort, 3),
    ("GET", "chatflows-streaming"): (is_streaming, 1),
    ("GET", "chatflows-uploads"): (uploads, 1),
    ("GET", "public-chatbotConfig"): (chatbot_config, 1),
    ("POST", "feedback"): (feedback, 1),
    ("PUT", "feedback"): (change_feedback, 1),
    ("POST", "leads"): (leads, 0),
    ("POST", "text-to-speech/generate"): (speech, 0),
    ("POST", "text-to-speech/abort"): (abort_speech, 0),
    ("POST", "vector/upsert"): (upsert, 1),
    ("POST", "openai-assistants-file/download"): (assistant_file, 0),
    ("GET", "node-icon"): (icon, 1),
    ("POST", "attachments"): (attachments, 2),
    ("GET", "get-upload-file"): (upload_file, 0),
    ("GET", "ping"): (ping, 0),
    ("GET", "version"): (version, 0),
    ("GET", "chatflows"): (chatflows, 0),
}
_WITH_ACTION = ("text-to-speech", "vector", "openai-assistants-file")
_PUBLIC = (
    "/api/v1/prediction/",
    "/api/v1/chatmessage/abort",
    "/api/v1/chatflows-streaming",
    "/api/v1/chatflows-uploads",
    "/api/v1/public-chatbotConfig",
    "/api/v1/feedback",
    "/api/v1/leads",
    "/api/v1/attachments",
    "/api/v1/get-upload-file",
    "/api/v1/text-to-speech/generate",
    "/api/v1/text-to-speech/abort",
    "/api/v1/openai-assistants-file/download",
    "/api/v1/node-icon/",
    "/api/v1/ping",
    "/api/v1/version",
)
