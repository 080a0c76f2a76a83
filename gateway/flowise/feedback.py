"""Feedback and leads: the two small JSON documents that the widget leaves behind.

Only the known fields pass: Flowise copies whatever else a feedback holds into its database row, the row's id
too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.errors import BadRequest
from gateway.flowise.body_policy import BodyPolicy
from gateway.flowise.checks import (
    BOUND_ID_CHARACTERS,
    bound_id,
    check_texts,
    refuse_storage_references,
    unbound_id,
)
from gateway.flowise.raw_json import JsonObject, encode, read_document, shown, text_of

_FEEDBACK = ("chatflowid", "chatId", "messageId", "rating", "content")
_LEAD = ("chatflowid", "chatId", "name", "email", "phone")
_RATINGS = ("THUMBS_UP", "THUMBS_DOWN")


@dataclass(frozen=True, slots=True)
class Record:
    """A checked feedback or lead.

    Attributes:
        flow: what the body names as its chatflow: a route's name or a chatflow id; None if it names none.
        chat_id: as the client sent it, checked; None if absent or null.
    """

    flow: str | None
    chat_id: str | None
    _body: JsonObject

    def encode(self, flow: str, chat_id: str | None) -> bytes:
        """The JSON for Flowise with its chatflow id and, unless None, the mapped conversation id."""
        edits: dict[str, bytes | None] = {}
        if flow != self.flow:
            edits["chatflowid"] = encode(flow)
        if chat_id is not None and chat_id != self.chat_id:
            edits["chatId"] = encode(chat_id)
        return self._body.with_changes(edits)


def read_feedback(body: bytes, policy: BodyPolicy) -> Record:
    """Reads the body of `POST /api/v1/feedback/{flow}`.

    Raises BadRequest for another shape (chatId and messageId are required) and TooLarge for its text.
    """
    document, texts = _read(body, _FEEDBACK, policy)
    for name in ("chatId", "messageId"):
        if name not in texts:
            raise BadRequest(f"{name} is missing; it is the one that the answer's metadata told")
    unbound_id(texts["messageId"], "messageId")
    if texts.get("rating", _RATINGS[0]) not in _RATINGS:
        raise BadRequest(f"rating must be {' or '.join(_RATINGS)}")
    return _record(document, texts, policy)


def read_leads(body: bytes, policy: BodyPolicy) -> Record:
    """Reads the body of `POST /api/v1/leads`, which must name its chatflow. Raises as `read_feedback`."""
    document, texts = _read(body, _LEAD, policy)
    if "chatflowid" not in texts:
        raise BadRequest("chatflowid is missing; it is the name of the route or its chatflow id")
    return _record(document, texts, policy)


def lead_flow(body: bytes) -> str:
    """The chatflow that a lead names, before its route and thus its policy is known. Raises BadRequest."""
    raw = read_document(body).raw("chatflowid")
    text = None if raw is None else text_of(raw)
    if text is None:
        raise BadRequest("chatflowid must be a string: the name of the route or its chatflow id")
    return bound_id(text, "chatflowid")


def _read(body: bytes, allowed: tuple[str, ...], policy: BodyPolicy) -> tuple[JsonObject, Mapping[str, str]]:
    document = read_document(body)
    refuse_storage_references(document)
    texts: dict[str, str] = {}
    for name in document.members:
        if name not in allowed:
            raise BadRequest(f"{shown(name)} is not a field of this request; it takes {', '.join(allowed)}")
        raw = document.raw(name)
        if raw is None:
            continue
        text = text_of(raw)
        if text is None:
            raise BadRequest(f"{name} must be a string")
        check_texts(raw, name, policy.max_question, max(policy.max_word, BOUND_ID_CHARACTERS))
        texts[name] = text
    return document, MappingProxyType(texts)


def _record(document: JsonObject, texts: Mapping[str, str], policy: BodyPolicy) -> Record:
    flow, chat_id = texts.get("chatflowid"), texts.get("chatId")
    check_id = bound_id if policy.bound else unbound_id
    return Record(
        flow=None if flow is None else bound_id(flow, "chatflowid"),
        chat_id=None if chat_id is None else check_id(chat_id, "chatId"),
        _body=document,
    )
