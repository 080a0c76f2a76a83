"""What Flowise's reply to `chatflows-streaming` says of a chatflow (pure).

Flowise answers this path without a key and without running anything, but with 500 for an id that it does not know
(capture chatflows-streaming-unknown).
"""

from __future__ import annotations

from enum import Enum, auto
from http import HTTPStatus

import msgspec
from msgspec import Struct

from gateway.flowise.error_texts import READ, message, missing_chatflow
from gateway.flowise.events import UNREADABLE


class ChatflowFinding(Enum):
    """What is known of a chatflow."""

    UNKNOWN = auto()
    STREAMS = auto()
    DOES_NOT_STREAM = auto()
    WANTS_KEY = auto()
    MISSING = auto()


class ChatflowState(Struct, frozen=True):
    """`sentence`: Flowise's own, of a chatflow that is missing."""

    finding: ChatflowFinding
    sentence: str = ""


class _Streaming(msgspec.Struct, rename="camel"):
    is_streaming: msgspec.Raw = msgspec.Raw(b"")


_STREAMING = msgspec.json.Decoder(_Streaming)  # builds nothing of what else is in the reply
_BY_ANSWER = {b"true": ChatflowFinding.STREAMS, b"false": ChatflowFinding.DOES_NOT_STREAM}
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def read_state(status: int, body: bytes, chatflow: str) -> ChatflowState:
    """The state of the chatflow with this id."""
    if status in _REFUSED:
        return ChatflowState(ChatflowFinding.WANTS_KEY)
    if len(body) > READ:
        return ChatflowState(ChatflowFinding.UNKNOWN)
    if status != HTTPStatus.OK:
        sentence = missing_chatflow(message(body), chatflow)
        return ChatflowState(ChatflowFinding.MISSING if sentence else ChatflowFinding.UNKNOWN, sentence)
    try:
        streams = bytes(_STREAMING.decode(body).is_streaming)
    except UNREADABLE:
        streams = b""
    return ChatflowState(_BY_ANSWER.get(streams, ChatflowFinding.UNKNOWN))
