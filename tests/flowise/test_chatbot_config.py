from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamBadReply
from gateway.flowise.chatbot_config import trim

CAPTURES = Path(__file__).parents[1] / "captures"
FORM = {
    "startInputType": "formInput",
    "formTitle": "Hé \ud83d",
    "formDescription": "d",
    "formInputTypes": [{"type": "options", "name": "n", "label": "l", "addOptions": [{"option": "o"}]}],
}


def _settings(flow, **others):
    return json.dumps({"a": 1.50, "flowData": json.dumps(flow), **others}).encode()


def _start(inputs):
    return {"id": "startAgentflow_0", "data": {"name": "startAgentflow", "inputs": inputs, "secret": "s"}}


@pytest.mark.parametrize("name", ["public-chatbotConfig-chain", "public-chatbotConfig-protected"])
def test_a_captured_answer_loses_the_flow_and_nothing_else(name):
    body = (CAPTURES / f"{name}.raw").read_bytes().partition(b"\r\n\r\n")[2]
    trimmed = trim(body)
    expected = json.loads(body)
    del expected["flowData"]
    assert json.loads(trimmed) == expected
    assert b"flowData" in body
    assert b"systemMessagePrompt" not in trimmed


def test_the_form_of_the_start_node_stays_as_the_widget_reads_it():
    flow = {
        "nodes": [
            {"data": {"name": "llmAgentflow", "inputs": {"prompt": "secret"}}},
            _start({**FORM, "formTitle": "Hé", "startState": "secret", "startPersistState": True}),
        ],
        "edges": ["secret"],
    }
    trimmed = json.loads(trim(_settings(flow, z=None)))
    widget = next(
        node
        for node in json.loads(trimmed.pop("flowData"))["nodes"]
        if node["data"]["name"] == "startAgentflow"
    )
    assert widget == {"data": {"name": "startAgentflow", "inputs": {**FORM, "formTitle": "Hé"}}}
    assert trimmed == {"a": 1.5, "z": None}


@pytest.mark.parametrize(
    "flow",
    [
        *(
            {},
            {"nodes": []},
            {"nodes": [_start({})]},
            {"nodes": [_start("x")]},
            {"nodes": [_start({"startState": "s"})]},
        ),
        *(
            {"nodes": "s"},
            {"nodes": [{"data": 1}]},
            [],
            "text",
            None,
            {"nodes": [{"data": {"name": "other", "inputs": FORM}}]},
        ),
        {"nodes": [_start(FORM)]},  # half a surrogate pair: cannot be read
    ],
    ids=range(12),
)
def test_a_flow_without_a_readable_form_is_removed(flow):
    assert trim(_settings(flow)) == b'{"a": 1.5}'


@pytest.mark.parametrize(
    "raw", [b"null", b"7", b'"not json"', b'""', b"{}", b'"\\ud83d"', b'"' + b"[" * 100_000 + b'"']
)
def test_flow_data_that_is_not_a_flow_is_removed(raw):
    assert trim(b'{"flowData":%b,"b":2}' % raw) == b'{"b":2}'


@pytest.mark.parametrize("body", [b'"OK"', b' "OK"\n', b"{}", b'{"a" : 1}'])
def test_an_answer_without_a_flow_passes_byte_for_byte(body):
    assert trim(body) == body


@pytest.mark.parametrize(
    "body", [b"", b"OK", b"[1]", b"null", b'{"a":', b'"OK', b"<html>", b"\xff", b'"a" "b"']
)
def test_an_answer_that_is_neither_object_nor_text_is_a_bad_reply(body):
    with pytest.raises(UpstreamBadReply):
        trim(body)


@given(
    st.recursive(
        st.none() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.sampled_from(["nodes", "data", "name", "inputs"]), v),
    )
)
def test_no_flow_makes_it_fail_or_lets_anything_through(flow):
    trimmed = json.loads(trim(_settings(flow)))
    assert trimmed == {"a": 1.5}
