"""Removes the flow from the answer of public-chatbotConfig: Flowise sends it to anyone (CVE-2026-41273) (pure).

Only the member `flowData` changes. The answer may be hostile: it is read in bounds, see `json_scan`.
"""

from __future__ import annotations

import msgspec

from gateway.errors import UpstreamBadReply
from gateway.flowise.events import UNREADABLE
from gateway.flowise.json_scan import TooManyError, items, members, with_changes
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


def trim(body: bytes) -> bytes:
    """Returns Flowise's answer with `flowData` reduced to the start node's form, or without it if there is no form.

    A JSON string is returned as it is: Flowise answers `"OK"` for a chatflow without settings. The ETag of Flowise
    does not hold for the result. Raises UpstreamBadReply if the answer is neither a JSON object nor a JSON string, or
    has too many members.
    """
    if _is_text(body):
        return body
    try:
        found = members(body)
    except ValueError as error:
        raise UpstreamBadReply(f"Flowise's chatbot settings cannot be read: {error}.") from None
    flows = [body[member.value : member.end] for member in found if member.name == "flowData"]
    if not flows:
        return body
    return with_changes(body, found, {"flowData": _start_form(text_of(flows[-1]))})


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
