"""One event of a Flowise stream: its name and the size of its content; and the events that the gateway writes (pure).

Three forms are read, and the first that matches wins: Flowise's own (`message:` LF `data:{"event":"token",…}`; before
3.1.2 partly without the colon), the documented one (`event: token` LF `data: …`), and any JSON object with a member
`event`. Finding the boundaries between events is done in `http/sse.py`.
"""

from __future__ import annotations

import re
from itertools import islice

import msgspec

EVENT_NAMES: frozenset[str] = frozenset(
    {
        "start",
        "token",
        "thinking",
        "sourceDocuments",
        "usedTools",
        "calledTools",
        "artifacts",
        "fileAnnotations",
        "tool",
        "agent_trace",
        "agentReasoning",
        "nextAgent",
        "agentFlowEvent",
        "nextAgentFlow",
        "agentFlowExecutedData",
        "usageMetadata",
        "action",
        "abort",
        "metadata",
        "error",
        "end",
        "tts_start",
        "tts_data",
        "tts_error",
        "tts_end",
        "tts_abort",
        "listenerReady",
        "executionEnd",
    }
)
HEAD = 4096  # bytes of an event in which its name is looked for
HEARTBEAT = b":\n\n"
END_EVENT = b'message:\ndata:{"event":"end","data":"[DONE]"}\n\n'
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # raised by hostile JSON

_FLOWISE = re.compile(rb'message:?(?:\r\n|\n|\r)data: ?\{"event":"(\w+)"')
# The lines of the two fields that matter; a line ends with CR, LF or CRLF. Found in C, whatever the others are.
_FIELD = re.compile(rb"(?<![^\r\n])(event|data)(?::[ ]?([^\r\n]*))?(?![^\r\n])")
_JSON_PART = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)("?)|[{}\[\],]', re.DOTALL)
_MOST_PARTS = 64  # strings and brackets of a cut JSON object in which the name is looked for
_BOM = b"\xef\xbb\xbf"
_LINE_ENDS = b"\r\n"
_CUT_TEXT = re.compile(rb'\{"event":"\w+","data":"(.*)', re.DOTALL)
_LONGEST_ESCAPE = 12  # bytes: two halves of a surrogate pair
_EMPTY = frozenset({b"", b'""', b"null", b"[]", b"{}"})


def error_event(text: str) -> bytes:
    """The `error` event with this text, as in the capture stream-chain-llm-400; lone surrogates become `?`."""
    readable = text.encode("utf-8", "replace").decode()
    return b'message:\ndata:{"event":"error","data":%b}\n\n' % msgspec.json.encode(readable)


def event_name(head: bytes) -> str | None:
    """Returns the name of an event, None if it has none, as a block of comments.

    `head` is the whole event or at least its first `HEAD` bytes; bare line ends and a byte order mark may precede it.
    """
    if match := _FLOWISE.match(head, 0, HEAD):
        return match[1].decode("ascii")
    head = head[:HEAD]
    if b"event" not in head and b"\\u" not in head:  # nor an escaped spelling of it
        return None
    fields = _fields(head)
    if len(head) == HEAD and _last_line(head).partition(b":")[0] == b"event" and fields:
        fields.pop()  # its value may be cut
    for field, value in fields:
        if field == b"event" and value:
            return value.decode("utf-8", "replace")
    return _name_in_json(_data(fields))


def is_comment(head: bytes) -> bool:
    """Returns whether the block that begins with these bytes has neither a name nor data."""
    head = head[:HEAD]
    return not may_be_event(head) or _FIELD.search(head.removeprefix(_BOM)) is None


def may_be_event(block: bytes) -> bool:
    """Returns whether the block may have a name or data. False is certain and cheap: it is a comment."""
    # `in` makes an error first, which costs as much again
    return block.find(b"data") >= 0 or block.find(b"event") >= 0


def payload(event: bytes) -> bytes:
    """Returns the values of the event's data lines, joined by line feeds (WHATWG HTML 9.2.6).

    Of an event above `HEAD` bytes only one data line is read, its last line, as Flowise writes it; else it is empty.
    """
    if len(event) <= HEAD:
        return _data(_fields(event))
    event = event.rstrip(_LINE_ENDS)
    line = _last_line(event)
    if not line.startswith(b"data:") or len(event) - len(line) > HEAD:
        return b""
    return line[len(b"data:") :].removeprefix(b" ")


class _NamedEvent(msgspec.Struct):
    event: msgspec.Raw
    data: msgspec.Raw = msgspec.Raw(b"")


class _Name(msgspec.Struct):
    event: msgspec.Raw = msgspec.Raw(b"")


_NAME = msgspec.json.Decoder(_Name)


def event_text(event: bytes) -> str:
    """Returns the text of an event that carries one, as `error` does, also of one that is cut behind its beginning."""
    content = payload(event)
    try:
        data = msgspec.json.decode(bytes(msgspec.json.decode(content, type=_NamedEvent).data) or b"null")
    except UNREADABLE:
        return _cut_text(content)
    return data if isinstance(data, str) else ""


def _cut_text(content: bytes) -> str:
    """What is left of a text; the documented form has nothing but the text."""
    cut = _CUT_TEXT.match(content)
    if cut is None:
        return content.decode("utf-8", "replace")
    texts = (_text(cut[1][: len(cut[1]) - missing]) for missing in range(_LONGEST_ESCAPE))
    return next((text for text in texts if text), "")


def content_size(event: bytes) -> int:
    """Returns the size of the event's content in bytes, as written on the wire; 0 for null, "", [] and {}.

    Of a JSON object with a member `event` only its member `data` counts.
    """
    content = payload(event)
    try:
        return text_size(bytes(msgspec.json.decode(content, type=_NamedEvent).data))
    except UNREADABLE:
        return text_size(content)  # the documented form


def text_size(content: bytes) -> int:
    """Returns the size of a JSON value or plain text in bytes: a JSON string without quotes, 0 for an empty value."""
    if content in _EMPTY:
        return 0
    is_text = len(content) > 1 and content[:1] == content[-1:] == b'"'
    return len(content) - 2 if is_text else len(content)


def _fields(event: bytes) -> list[tuple[bytes, bytes]]:
    """The fields `event` and `data`, in their order (WHATWG HTML 9.2.6); other fields do not matter here."""
    return _FIELD.findall(event.removeprefix(_BOM))


def _last_line(head: bytes) -> bytes:
    """What follows the last line end."""
    return head[max(head.rfind(b"\n"), head.rfind(b"\r")) + 1 :]


def _data(fields: list[tuple[bytes, bytes]]) -> bytes:
    return b"\n".join([value for field, value in fields if field == b"data"])


def _name_in_json(text: bytes) -> str | None:
    """Finds the member `event` of the outermost object in JSON that may be cut anywhere."""
    if not text.lstrip(b" \t\n").startswith(b"{"):
        return None
    try:
        name = _NAME.decode(text).event
    except UNREADABLE:
        return _name_in_cut_json(text)
    return _text(bytes(name)[1:-1]) or None if bytes(name).startswith(b'"') else None


def _name_in_cut_json(text: bytes) -> str | None:
    depth = 0
    key: str | None = None  # the member of the outermost object whose value comes next
    for part in islice(_JSON_PART.finditer(text), _MOST_PARTS):
        mark = part[0][:1]
        if mark in b"{[":
            depth += 1
        elif mark in b"}]":
            depth -= 1
            if depth == 0:
                return None
        elif depth != 1:
            continue
        elif mark == b",":
            key = None
        elif key == "event" or not part[2]:
            return _text(part[1]) or None if part[2] else None
        elif key is None:
            key = _text(part[1])
    return None


def _text(escaped: bytes) -> str:
    try:
        return msgspec.json.decode(b'"%b"' % escaped, type=str)
    except UNREADABLE:
        return ""
