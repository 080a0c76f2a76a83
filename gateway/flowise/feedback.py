"""Feedback and leads, the two small JSON documents that the widget posts (pure).

Only known fields pass: Flowise copies every field of a feedback into its database row, the row's id too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.errors import BadRequest
from gateway.flowise.body_rules import BodyRules
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
        flow: its `chatflowid`: a route's name or a chatflow id; None if absent or null.
        client_chat_id: as the client sent it, checked, not mapped; None if absent, null or empty.
    """

    flow: str | None
    client_chat_id: str | None
    _body: JsonObject

    def encode(self, flow: str, chat_id: str | None) -> bytes:
        """The JSON for Flowise with the route's chatflow id and, unless None, the conversation id for Flowise."""
        edits: dict[str, bytes | None] = {}
        if flow != self.flow:
            edits["chatflowid"] = encode(flow)
        if chat_id is not None and chat_id != self.client_chat_id:
            edits["chatId"] = encode(chat_id)
        elif self.client_chat_id is None and self._body.size("chatId"):  # empty: one conversation for all
            edits["chatId"] = None
        return self._body.with_changes(edits)


def read_feedback(body: bytes, rules: BodyRules) -> Record:
    """Reads the body of `POST /api/v1/feedback/{flow}`.

    Raises:
        BadRequest: it has another shape; chatId and messageId are required.
        TooLarge: a text is above the route's limits.
    """
    document, texts = _read(body, _FEEDBACK, rules)
    for name in ("chatId", "messageId"):
        if name not in texts:
            raise BadRequest(f"{name} is missing. Send the one from the answer's metadata.")
    unbound_id(texts["messageId"], "messageId")
    if texts.get("rating", _RATINGS[0]) not in _RATINGS:
        raise BadRequest(f"rating must be {' or '.join(_RATINGS)}.")
    return _record(document, texts, rules)


def read_leads(body: bytes, rules: BodyRules) -> Record:
    """Reads the body of `POST /api/v1/leads`; chatflowid is required. Raises as `read_feedback` does."""
    document, texts = _read(body, _LEAD, rules)
    if "chatflowid" not in texts:
        raise BadRequest("chatflowid is missing. Send the route's name or its chatflow id.")
    return _record(document, texts, rules)


def lead_flow(body: bytes) -> str:
    """The flow that a lead names, read before the rules of its route are known. Raises BadRequest."""
    raw = read_document(body).raw("chatflowid")
    text = None if raw is None else text_of(raw)
    if text is None:
        raise BadRequest("chatflowid must be a string: the route's name or its chatflow id.")
    return bound_id(text, "chatflowid")


def _read(body: bytes, allowed: tuple[str, ...], rules: BodyRules) -> tuple[JsonObject, Mapping[str, str]]:
    document = read_document(body)
    refuse_storage_references(document)
    texts: dict[str, str] = {}
    for name in document.members:
        if name not in allowed:
            raise BadRequest(f"{shown(name)} is not a field of this request. It takes {', '.join(allowed)}.")
        raw = document.raw(name)
        if raw is None or (name == "chatId" and raw == b'""'):
            continue
        text = text_of(raw)
        if text is None:
            raise BadRequest(f"{name} must be a string.")
        check_texts(document, name, rules.max_question, max(rules.max_word, BOUND_ID_CHARACTERS))
        texts[name] = text
    return document, MappingProxyType(texts)


def _record(document: JsonObject, texts: Mapping[str, str], rules: BodyRules) -> Record:
    flow, client_chat_id = texts.get("chatflowid"), texts.get("chatId")
    check_id = bound_id if rules.conversations.bind else unbound_id
    return Record(
        flow=None if flow is None else bound_id(flow, "chatflowid"),
        client_chat_id=None if client_chat_id is None else check_id(client_chat_id, "chatId"),
        _body=document,
    )
