"""Texts in the trace of an agentflow, cut to what a span may hold (pure)."""

from __future__ import annotations

import msgspec

from gateway.flowise.events import UNREADABLE
from gateway.flowise.json_scan import TooManyError, items

Raw = msgspec.Raw
LONGEST_CONTENT = 4096  # characters of one text
MOST_CONTENT_MESSAGES = 20  # to a model: the first, which has the instructions, and the last
CUT = "…"

_NOTHING = msgspec.Raw(b"null")


class _ModelMessage(msgspec.Struct):
    role: msgspec.Raw = _NOTHING
    content: msgspec.Raw = _NOTHING


def text_of(raw: msgspec.Raw, longest: int) -> str:
    """A JSON string, cut; of anything else nothing."""
    if bytes(memoryview(raw)[:1]) != b'"':
        return ""
    try:
        return cut(msgspec.json.decode(raw, type=str), longest)
    except UNREADABLE:
        return ""


def content_of(raw: msgspec.Raw) -> str:
    """A JSON string, or any other value as JSON, cut; of null and of "" nothing."""
    if bytes(raw) in (b"null", b'""'):
        return ""
    if bytes(memoryview(raw)[:1]) == b'"':
        return text_of(raw, LONGEST_CONTENT)
    beginning = bytes(memoryview(raw)[: 4 * LONGEST_CONTENT + 4])
    return cut(beginning.decode("utf-8", "replace"), LONGEST_CONTENT)


def messages_of(raw: msgspec.Raw) -> str:
    """The messages to a model in the form of `gen_ai.input.messages`, as JSON; empty if there are none."""
    try:
        given = items(raw)
    except TooManyError:
        return ""
    if len(given) > MOST_CONTENT_MESSAGES:
        given = [given[0], *given[1 - MOST_CONTENT_MESSAGES :]]
    found = [message for one in given if (message := _message(one)) is not None]
    return as_json(*found) if found else ""


def as_json(*messages: tuple[str, str]) -> str:
    """Role and text of each message, in the form of `gen_ai.input.messages`."""
    return msgspec.json.encode(
        [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in messages]
    ).decode()


def cut(text: str, longest: int) -> str:
    """At most `longest` characters; a text that was cut says so at its end."""
    return text if len(text) <= longest else text[: longest - 1] + CUT


def _message(raw: msgspec.Raw) -> tuple[str, str] | None:
    try:
        message = msgspec.json.decode(raw, type=_ModelMessage)
    except UNREADABLE:
        return None
    return text_of(message.role, 32) or "user", content_of(message.content)
