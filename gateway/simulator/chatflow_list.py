"""The list of chatflows, which needs an API key (captures chatflows-page, chatflows-page-end)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.simulator.flows import Flow
from gateway.simulator.predictions import State
from gateway.simulator.replies import Responder
from gateway.simulator.requests import ReceivedRequest

_WORKSPACE = "77777777-7777-4777-8777-777777777777"
_CREATED = "2026-11-28T13:37:42.000Z"
_NOT_SET = ("analytic", "speechToText", "textToSpeech", "followUpPrompts", "category")


async def chatflows(state: State, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
    """All chatflows as a list; with `page` and `limit` above zero, one page and the total number."""
    flows = list(state.flows.values())
    page, limit = (_number(request.query.get(name, "")) for name in ("page", "limit"))
    if page <= 0 or limit <= 0:
        return responder.json([_row(flow) for flow in flows])
    shown = flows[(page - 1) * limit : page * limit]
    return responder.json({"data": [_row(flow) for flow in shown], "total": len(flows)})


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _row(flow: Flow) -> dict[str, Any]:
    return {
        "id": flow.id,
        "name": flow.name,
        "flowData": flow.public_nodes(),
        "deployed": False,
        "isPublic": None if flow.needs_key else True,
        "apikeyid": flow.key_id or None,
        "chatbotConfig": _text(_chatbot_config(flow)),
        "apiConfig": _text(_api_config(flow)),
        **dict.fromkeys(_NOT_SET),
        "type": "CHATFLOW" if flow.kind == "chain" else "AGENTFLOW",
        "createdDate": _CREATED,
        "updatedDate": _CREATED,
        "mcpServerConfig": None,
        "webhookSecretConfigured": False,
        "workspaceId": _WORKSPACE,
    }


def _chatbot_config(flow: Flow) -> Mapping[str, Any]:
    origins = {"allowedOrigins": list(flow.allowed_origins), "allowedOriginsError": flow.origins_error}
    return {**flow.chatbot_config, **(origins if flow.allowed_origins else {})}


def _api_config(flow: Flow) -> Mapping[str, Any]:
    limit = flow.rate_limit
    if limit is None:
        return {}
    about = {"limitMax": limit.requests, "limitDuration": limit.seconds, "limitMsg": limit.message}
    return {"rateLimit": {"status": True, **about}}


def _text(value: Mapping[str, Any]) -> str | None:
    return json.dumps(dict(value)) if value else None
