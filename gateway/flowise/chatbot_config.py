"""Trims what Flowise tells anyone about a chatflow (pure): flow, code and prompts go, and buttons that do nothing.

Flowise sends the whole flow in public-chatbotConfig (CVE-2026-41273). Every member that is not named here keeps its
bytes. The answer may be hostile: it is read in bounds, see `json_scan`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import msgspec

from gateway.errors import UpstreamBadReply
from gateway.flowise.events import UNREADABLE
from gateway.flowise.json_scan import ScannedMember, TooManyError, items, members, with_changes
from gateway.flowise.raw_json import encode, text_of

_NULL = msgspec.Raw(b"null")
_START_NODE = b'"startAgentflow"'


class _FormInputs(msgspec.Struct, rename="camel"):
    """What flowise-embed 3.1.6 reads of the flow."""

    start_input_type: msgspec.Raw = _NULL
    form_title: msgspec.Raw = _NULL
    form_description: msgspec.Raw = _NULL
    form_input_types: msgspec.Raw = _NULL


class _FlowNodeData(msgspec.Struct):
    name: msgspec.Raw = _NULL
    inputs: msgspec.Raw = _NULL


class _FlowNode(msgspec.Struct):
    data: _FlowNodeData | None = None


class _Flow(msgspec.Struct):
    nodes: msgspec.Raw = _NULL


_FLOW = msgspec.json.Decoder(_Flow)
_NODE = msgspec.json.Decoder(_FlowNode)
_INPUTS = msgspec.json.Decoder(_FormInputs)


class Offered(Protocol):
    """The keys of a route that decide what its clients may do; `config.Route` has them."""

    @property
    def uploads(self) -> bool: ...
    @property
    def upsert(self) -> bool: ...
    @property
    def speech(self) -> bool: ...


def trim(body: bytes, offered: Offered) -> bytes:
    """Returns Flowise's settings of the widget without the flow, code and prompts, and without what is not offered.

    `flowData` is reduced to the start node's form, or left out if there is no form. A JSON string is returned as it is:
    Flowise answers `"OK"` for a chatflow without settings. The ETag of Flowise does not hold for the result. Raises
    UpstreamBadReply if the answer is neither a JSON object nor a JSON string, or has too many members.
    """
    if _is_text(body):
        return body
    found = _members_read(body)
    changes: dict[str, bytes | None] = {}
    for member in found:  # of a name that occurs twice the last one counts, as for a browser
        if (edit := _EDITS.get(member.name)) is None:
            continue
        raw = body[member.value : member.end]
        changes.pop(member.name, None)
        if (edited := edit(raw, offered)) != raw:
            changes[member.name] = edited
    return with_changes(body, found, changes)


def trim_uploads(body: bytes, offered: Offered) -> bytes:
    """Returns Flowise's answer to chatflows-uploads without what is not offered. Raises as `trim`."""
    found = _members_read(body)
    return with_changes(body, found, _not_offered(offered))


def _members_read(body: bytes) -> list[ScannedMember]:
    try:
        return members(body)
    except ValueError as error:
        raise UpstreamBadReply(f"Flowise's chatbot settings cannot be read: {error}.") from None


def _not_offered(offered: Offered) -> dict[str, bytes | None]:
    """The members of `uploads` that switch off what the route refuses. A prediction names the stored documents, too."""
    off: dict[str, bytes | None] = {}
    if not offered.uploads:
        off |= {
            "isSpeechToTextEnabled": _FALSE,
            "isImageUploadAllowed": _FALSE,
            "imgUploadSizeAndTypes": b"[]",
        }
    if not (offered.uploads and offered.upsert):
        off |= {"isRAGFileUploadAllowed": _FALSE, "fileUploadSizeAndTypes": b"[]"}
    return off


def _flow(raw: bytes, _: Offered) -> bytes | None:
    return _start_form(text_of(raw))


def _speech(raw: bytes, offered: Offered) -> bytes | None:
    return raw if offered.speech else _FALSE


def _uploads(raw: bytes, offered: Offered) -> bytes | None:
    return _changed(raw, _not_offered(offered))


def _whole_documents(raw: bytes, offered: Offered) -> bytes | None:
    return raw if offered.uploads else _changed(raw, {"status": _FALSE})


def _switch_only(raw: bytes, _: Offered) -> bytes | None:
    """Without the code of a post-processing function, and without the prompt and credential of follow-up prompts."""
    try:
        found = members(raw)
    except ValueError:
        return None
    return with_changes(raw, found, {member.name: None for member in found if member.name not in _SWITCHES})


def _changed(raw: bytes, changes: Mapping[str, bytes | None]) -> bytes | None:
    """An object with these changes; None for what is no object: the widget could read it as switched on."""
    try:
        return with_changes(raw, members(raw), changes)
    except ValueError:
        return None


_FALSE = b"false"
_SWITCHES = ("status", "enabled")
_EDITS: Mapping[str, Callable[[bytes, Offered], bytes | None]] = MappingProxyType(
    {
        "flowData": _flow,
        "isTTSEnabled": _speech,
        "uploads": _uploads,
        "fullFileUpload": _whole_documents,
        "postProcessing": _switch_only,
        "followUpPrompts": _switch_only,
    }
)


def _is_text(body: bytes) -> bool:
    return body.strip().startswith(b'"') and text_of(body.strip()) is not None


def _start_form(flow_data: str | None) -> bytes | None:
    """The raw value of `flowData` with nothing but the form inputs of the start node; None if there are none."""
    try:
        nodes = items(_FLOW.decode(flow_data or "{}").nodes)
        inputs = next(filter(None, map(_start_inputs, nodes)), None)
        form = [] if inputs is None else _members_of(_INPUTS.decode(inputs))
    except (*UNREADABLE, UnicodeEncodeError, TooManyError):
        return None
    if not form:
        return None
    trimmed = b'{"nodes":[{"data":{"name":%b,"inputs":{%b}}}]}' % (_START_NODE, b",".join(form))
    return encode(trimmed.decode())


def _start_inputs(node: msgspec.Raw) -> msgspec.Raw | None:
    data = _NODE.decode(node).data
    if data is None or bytes(data.name) != _START_NODE or bytes(data.inputs)[:1] != b"{":
        return None
    return data.inputs


def _members_of(inputs: _FormInputs) -> list[bytes]:
    names = _FormInputs.__struct_encode_fields__
    values = msgspec.structs.astuple(inputs)
    return [
        b'"%b":%b' % (name.encode(), raw) for name, raw in zip(names, values, strict=True) if raw is not _NULL
    ]
