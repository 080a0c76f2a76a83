"""The endpoints beside predictions, as far as a widget or an SDK calls them."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from gateway.simulator.flows import Flow
from gateway.simulator.predictions import State, predict
from gateway.simulator.replies import HTML, Refusal, Responder
from gateway.simulator.requests import ReceivedRequest

Handler = Callable[[State, Responder, ReceivedRequest], Awaitable[web.StreamResponse]]

_UPLOADS = {
    "isSpeechToTextEnabled": False,
    "isImageUploadAllowed": False,
    "isRAGFileUploadAllowed": False,
    "imgUploadSizeAndTypes": [],
    "fileUploadSizeAndTypes": [],
}


def find(method: str, path: str) -> Handler | None:
    """Find what answers a path; None: the user interface's page does."""
    name, _, rest = path.removeprefix("/api/v1/").partition("/")
    handler, parts = _TABLE.get((("GET" if method == "HEAD" else method), name), (None, 0))
    given = [part for part in rest.split("/") if part]
    return handler if len(given) == parts or (name == "prediction" and not given) else None


def methods(path: str) -> str:
    """Give the methods of a path for `Allow`; feedback's are captured, others are what the simulator has."""
    if path.startswith("/api/v1/feedback"):
        return "POST,GET,HEAD,PUT"
    return ",".join(method for method in ("POST", "GET", "PUT") if find(method, path))


def is_public(path: str) -> bool:
    """Tell what passes Flowise's guard without a key, by prefix (prediction-no-id, unknown-path)."""
    return path.startswith(_PUBLIC)


async def ping(_desk: State, visit: Responder, _asked: ReceivedRequest) -> web.StreamResponse:
    """Capture ping."""
    return visit.send(HTML, b"pong")


async def version(_desk: State, visit: Responder, _asked: ReceivedRequest) -> web.StreamResponse:
    """Capture version."""
    return visit.json({"version": "3.1.4"})


async def is_streaming(desk: State, visit: Responder, asked: ReceivedRequest) -> web.StreamResponse:
    """Capture chatflows-streaming-chain."""
    flow = _flow(desk, asked, "chatflowsService.checkIfChatflowIsValidForStreaming")
    return visit.json({"isStreaming": flow.is_streaming})


async def uploads(desk: State, visit: Responder, asked: ReceivedRequest) -> web.StreamResponse:
    """Capture chatflows-uploads."""
    _flow(desk, asked, "chatflowsService.checkIfChatflowIsValidForUploads")
    return visit.json(_UPLOADS)


async def chatbot_config(desk: State, visit: Responder, asked: ReceivedRequest) -> web.StreamResponse:
    """Capture public-chatbotConfig-chain: everything, to anybody."""
    flow = _flow(desk, asked, "chatflowsService.getSinglePublicChatbotConfig")
    told = {"uploads": _UPLOADS, "flowData": flow.told_nodes(), "isTTSEnabled": False}
    return visit.json({**flow.chatbot_config, **told})


async def abort(desk: State, visit: Responder, asked: ReceivedRequest) -> web.StreamResponse:
    """Capture abort-idle: 200 whatever it achieved."""
    _, flow_id, chat_id = segments(asked.path)
    desk.ledger.aborts.append((flow_id, chat_id))
    desk.ledger.note()
    run = desk.pool.get((flow_id, chat_id))
    if run is not None:
        run.abort()
    return visit.json({"status": 200, "message": "Chat message aborted"})


async def feedback(desk: State, visit: Responder, asked: ReceivedRequest) -> web.StreamResponse:
    """Captures feedback, feedback-no-content, feedback-unknown-message."""
    message = asked.fields.get("messageId")
    if not message:
        raise Refusal(400, "Message ID is required")
    if message not in desk.messages:
        raise Refusal(404, f"Message with ID {message} not found")
    names = ("chatId", "messageId", "rating", "content")
    said = {name: asked.fields.get(name) for name in names}
    return visit.json({"chatflowid": segments(asked.path)[0], **said, **_stored()})


async def leads(_desk: State, visit: Responder, asked: ReceivedRequest) -> web.StreamResponse:
    """Captures leads, leads-slash, leads-empty, leads-partial."""
    if "chatflowid" not in asked.fields:
        detail = "SQLITE_CONSTRAINT: NOT NULL constraint failed: lead.chatflowid"
        raise Refusal(500, f"Error: leadsService.createLead - {detail}")
    names = ("name", "email", "phone", "chatflowid", "chatId")
    said = {name: asked.fields[name] for name in names if name in asked.fields}
    return visit.json({**said, **_stored()})


async def attachments(desk: State, visit: Responder, asked: ReceivedRequest) -> web.StreamResponse:
    """Captures attachments-off, attachments-unknown; the answer with files is as the widget reads it."""
    flow = _flow(desk, asked, "attachmentService.createAttachment")
    if not flow.may_upload:
        raise Refusal(
            500, "Error: attachmentService.createAttachment - File upload is not enabled for this chatflow"
        )
    for file in asked.files:
        desk.files[flow.id, segments(asked.path)[1], file.name] = file.content
    return visit.json(
        [
            {
                "name": file.name,
                "mimeType": file.content_type,
                "size": len(file.content),
                "content": file.content.decode("utf-8", "replace"),
            }
            for file in asked.files
        ]
    )


async def upload_file(desk: State, visit: Responder, asked: ReceivedRequest) -> web.StreamResponse:
    """Captures get-upload-file, get-upload-file-missing, get-upload-file-no-name."""
    flow_id, chat_id, name = (asked.query.get(key, "") for key in ("chatflowId", "chatId", "fileName"))
    if not (flow_id and chat_id and name):
        return visit.send(HTML, b"Invalid file path", 500)
    visit.base.append(("Content-Disposition", f'attachment; filename="{name}"'))
    content = desk.files.get((flow_id, chat_id, name))
    if content is None:
        raise Refusal(500, f"File {name} not found")
    return await visit.pour(content)


def segments(path: str) -> list[str]:
    """Give the decoded parts of a path after the endpoint's name."""
    return [unquote(part) for part in path.removeprefix("/api/v1/").split("/")[1:] if part]


def _flow(desk: State, asked: ReceivedRequest, service: str) -> Flow:
    flow_id = segments(asked.path)[0]
    if flow_id not in desk.flows:
        raise Refusal(500, f"Error: {service} - Chatflow {flow_id} not found")
    return desk.flows[flow_id]


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
    ("POST", "leads"): (leads, 0),
    ("POST", "attachments"): (attachments, 2),
    ("GET", "get-upload-file"): (upload_file, 0),
    ("GET", "ping"): (ping, 0),
    ("GET", "version"): (version, 0),
}
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
    "/api/v1/ping",
    "/api/v1/version",
)
