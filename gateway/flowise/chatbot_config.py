"""Removes the flow from the answer of public-chatbotConfig: Flowise sends it to anyone (CVE-2026-41273) (pure).

Only the member `flowData` changes.
"""

from __future__ import annotations

import msgspec

from gateway.errors import BadRequest, UpstreamBadReply
from gateway.flowise.raw_json import encode, read_document, text_of

_START_NODE = "startAgentflow"
# what flowise-embed 3.1.6 reads of the flow
_FORM_INPUTS = ("startInputType", "formTitle", "formDescription", "formInputTypes")


class _FlowNodeData(msgspec.Struct):
    name: object = None
    inputs: object = None


class _FlowNode(msgspec.Struct):
    data: _FlowNodeData | None = None


class _Flow(msgspec.Struct):
    nodes: list[_FlowNode] = []  # msgspec copies the default


_FLOW = msgspec.json.Decoder(_Flow)


def trim(body: bytes) -> bytes:
    """Returns Flowise's answer with `flowData` reduced to the start node's form, or without it if there is no form.

    A JSON string is returned as it is: Flowise answers `"OK"` for a chatflow without settings. The ETag of Flowise
    does not hold for the result. Raises UpstreamBadReply if the answer is neither a JSON object nor a JSON string.
    """
    if _is_text(body):
        return body
    try:
        settings = read_document(body)
    except BadRequest:
        raise UpstreamBadReply("Flowise's chatbot settings are not a JSON object.") from None
    if "flowData" not in settings.members:
        return body
    raw = settings.raw("flowData")
    form = None if raw is None else _start_form(text_of(raw))
    return settings.with_changes({"flowData": form})


def _is_text(body: bytes) -> bool:
    return body.strip().startswith(b'"') and text_of(body.strip()) is not None


def _start_form(flow_data: str | None) -> bytes | None:
    """The raw value of `flowData` with nothing but the form inputs of the start node; None if there are none."""
    try:
        nodes = _FLOW.decode(flow_data or "{}").nodes
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    for node in nodes:
        if node.data is not None and node.data.name == _START_NODE and isinstance(node.data.inputs, dict):
            form = {name: node.data.inputs[name] for name in _FORM_INPUTS if name in node.data.inputs}
            trimmed = {"nodes": [{"data": {"name": _START_NODE, "inputs": form}}]}
            return encode(encode(trimmed).decode()) if form else None
    return None
