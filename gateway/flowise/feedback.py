"""The small JSON documents that the widget posts: feedback, leads, speech, the name of an assistant's file (pure).

Only known fields pass: Flowise copies every field of a feedback into its database row, the row's id too, and would use
a `credentialId` that a client names for speech (CVE-2026-41279).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from gateway.errors import BadRequest
from gateway.flowise.body_rules import BodyRules
from gateway.flowise.checks import (
    BOUND_ID_CHARACTERS,
    bound_id,
    check_texts,
    file_name,
    is_feedback_id,
    refuse_storage_references,
    unbound_id,
)
from gateway.flowise.events import UNREADABLE
from gateway.flowise.raw_json import JsonObject, encode, read_document, shown, text_of
from gateway.records import DiscreetRecord

_FEEDBACK = ("chatflowid", "chatId", "messageId", "rating", "content")
_CHANGE = ("rating", "content")
_LEAD = ("chatflowid", "chatId", "name", "email", "phone")
_SPEECH = ("chatflowId", "chatId", "chatMessageId", "text")
_SPEECH_ABORT = ("chatflowId", "chatId", "chatMessageId")
_ASSISTANT_FILE = ("chatflowId", "chatId", "fileName")
_RATINGS = ("THUMBS_UP", "THUMBS_DOWN")


class _Stored(msgspec.Struct):
    id: str = ""


_STORED = msgspec.json.Decoder(_Stored)


class Record(DiscreetRecord, frozen=True):
    """A checked document.

    Attributes:
        flow: the flow that it names: a route's name or a chatflow id; None if absent or null.
        client_chat_id: as the client sent it, checked, not mapped; None if absent, null or empty.
        texts: its fields.
        flow_field: where Flowise reads the flow; empty: nowhere.
    """

    flow: str | None
    client_chat_id: str | None
    _body: JsonObject
    texts: Mapping[str, str]
    flow_field: str = "chatflowid"

    def encode(self, flow: str, chat_id: str | None) -> bytes:
        """The JSON for Flowise with the route's chatflow id and, unless None, the conversation id for Flowise."""
        edits: dict[str, bytes | None] = {}
        if flow != self.flow and self.flow_field:
            edits[self.flow_field] = encode(flow)
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


def read_feedback_change(body: bytes, rules: BodyRules) -> Record:
    """Reads the body of `PUT /api/v1/feedback/{id}`: a comment, a rating or both. Raises as `read_feedback` does."""
    document, texts = _read(body, _CHANGE, rules)
    if not texts:
        raise BadRequest("The feedback has neither content nor rating. Send one of them.")
    if texts.get("rating", _RATINGS[0]) not in _RATINGS:
        raise BadRequest(f"rating must be {' or '.join(_RATINGS)}.")
    return Record(None, None, document, texts, flow_field="")


def read_speech(body: bytes, rules: BodyRules) -> Record:
    """Reads the body of `POST /api/v1/text-to-speech/generate`; every field is required. Raises as `read_feedback`."""
    record = _read_named(body, _SPEECH, rules)
    if not record.texts["text"].strip():
        raise BadRequest("text is empty. Send the answer that is to be read aloud.")
    return record


def read_speech_abort(body: bytes, rules: BodyRules) -> Record:
    """Reads the body of `POST /api/v1/text-to-speech/abort`; every field is required. Raises as `read_feedback`."""
    return _read_named(body, _SPEECH_ABORT, rules)


def read_assistant_file(body: bytes, rules: BodyRules) -> Record:
    """Reads the body of `POST /api/v1/openai-assistants-file/download`. Raises as `read_feedback`."""
    record = _read_named(body, _ASSISTANT_FILE, rules)
    file_name(record.texts["fileName"])
    return record


def _read_named(body: bytes, fields: tuple[str, ...], rules: BodyRules) -> Record:
    """A document whose fields are all required; a `chatMessageId` among them is checked."""
    document, texts = _read(body, fields, rules)
    for name in fields:
        if not texts.get(name):
            raise BadRequest(f"{name} is missing. This request takes {', '.join(fields)}.")
    if "chatMessageId" in texts:
        unbound_id(texts["chatMessageId"], "chatMessageId")
    return _record(document, texts, rules, fields[0])


def named_flow(body: bytes, field: str) -> str:
    """The flow that a document names, read before the rules of its route are known. Raises BadRequest."""
    raw = read_document(body).raw(field)
    text = None if raw is None else text_of(raw)
    if text is None:
        raise BadRequest(f"{field} must be a string: the route's name or its chatflow id.")
    return bound_id(text, field)


def stored_id(answer: bytes) -> str:
    """The id in Flowise's answer to a new feedback; empty if it has none of the form that a change may name."""
    try:
        found = _STORED.decode(answer).id
    except UNREADABLE:
        return ""
    return found if is_feedback_id(found) else ""


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


def _record(
    document: JsonObject, texts: Mapping[str, str], rules: BodyRules, flow_field: str = "chatflowid"
) -> Record:
    flow, client_chat_id = texts.get(flow_field), texts.get("chatId")
    check_id = bound_id if rules.conversations.bind else unbound_id
    return Record(
        flow=None if flow is None else bound_id(flow, flow_field),
        client_chat_id=None if client_chat_id is None else check_id(client_chat_id, "chatId"),
        _body=document,
        texts=texts,
        flow_field=flow_field,
    )
