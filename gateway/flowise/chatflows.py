"""The chatflows that a Flowise lists (`GET /api/v1/chatflows`), as far as the commands need them (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gateway.flowise.events import UNREADABLE

KINDS = {"AGENTFLOW": "agentflow", "MULTIAGENT": "multi-agent", "ASSISTANT": "assistant"}  # else a chatflow
FORM, WEBHOOK, SCHEDULE = "form", "webhook", "schedule"
_TRIGGERS = {"formInput": FORM, "webhookTrigger": WEBHOOK, "scheduleInput": SCHEDULE}
_START = "startAgentflow"


class NotAListError(Exception):
    """The response is not a list of chatflows."""


class Chatflow(Struct, frozen=True):
    """One chatflow.

    Attributes:
        kind: chatflow, agentflow, multi-agent or assistant.
        trigger: form, webhook or schedule; empty: a chat message.
        key_id: the id, in Flowise, of the API key that predictions need; empty: none.
        takes_files: whether its chat window uploads whole files (`attachments`).
    """

    id: str
    name: str
    kind: str = "chatflow"
    trigger: str = ""
    key_id: str = ""
    takes_files: bool = False

    @property
    def answers_predictions(self) -> bool:
        """Flowise refuses predictions of flows that a webhook or a schedule starts."""
        return self.trigger not in (WEBHOOK, SCHEDULE)


class Page(Struct, frozen=True):
    """One page of the list. `total`: of all pages; None: this is the whole list, as older versions send it."""

    chatflows: tuple[Chatflow, ...]
    total: int | None


def read_page(body: bytes) -> Page:
    """The chatflows of a response; the nodes of a flow, which may be large, are not kept.

    Raises:
        NotAListError: it is something else.
    """
    try:
        answer = msgspec.json.decode(body)
    except UNREADABLE:
        raise NotAListError from None
    total = None
    if isinstance(answer, dict):
        total, answer = answer.get("total"), answer.get("data")
        if not isinstance(total, int):
            raise NotAListError
    if not isinstance(answer, list):
        raise NotAListError
    return Page(tuple(_chatflow(row) for row in answer), total)


def _chatflow(row: Any) -> Chatflow:
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise NotAListError
    kind = KINDS.get(str(row.get("type")), "chatflow")
    upload = _object(row.get("chatbotConfig")).get("fullFileUpload")
    return Chatflow(
        id=row["id"].lower(),
        name=str(row.get("name") or ""),
        kind=kind,
        trigger=_trigger(row.get("flowData")) if kind == "agentflow" else "",
        key_id=str(row.get("apikeyid") or ""),
        takes_files=isinstance(upload, dict) and upload.get("status") is True,
    )


def _trigger(flow_data: object) -> str:
    """What starts an agentflow, from the inputs of its start node."""
    nodes = _object(flow_data).get("nodes")
    for node in nodes if isinstance(nodes, list) else ():
        about = node.get("data") if isinstance(node, dict) else None
        if isinstance(about, dict) and about.get("name") == _START:
            inputs = about.get("inputs")
            given = inputs.get("startInputType") if isinstance(inputs, dict) else None
            return _TRIGGERS.get(str(given), "")
    return ""


def _object(text: object) -> Mapping[str, Any]:
    """The object in a column of JSON text; empty if there is none."""
    try:
        value = msgspec.json.decode(text) if isinstance(text, str) else None
    except UNREADABLE:
        return {}
    return value if isinstance(value, dict) else {}
