from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamBadReply
from gateway.flowise.chatbot_config import trim, trim_uploads


@dataclass(frozen=True)
class Allowed:
    """What a route allows."""

    uploads: bool = False
    upsert: bool = False
    speech: bool = False


EVERYTHING, NOTHING = Allowed(uploads=True, upsert=True, speech=True), Allowed()
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
    trimmed = trim(body, EVERYTHING)
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
    trimmed = json.loads(trim(_settings(flow, z=None), EVERYTHING))
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
    assert trim(_settings(flow), EVERYTHING) == b'{"a": 1.5}'


@pytest.mark.parametrize(
    "raw", [b"null", b"7", b'"not json"', b'""', b"{}", b'"\\ud83d"', b'"' + b"[" * 100_000 + b'"']
)
def test_flow_data_that_is_not_a_flow_is_removed(raw):
    assert trim(b'{"flowData":%b,"b":2}' % raw, EVERYTHING) == b'{"b":2}'


@pytest.mark.parametrize("body", [b'"OK"', b' "OK"\n', b"{}", b'{"a" : 1}'])
def test_an_answer_without_a_flow_passes_byte_for_byte(body):
    assert trim(body, EVERYTHING) == body


@pytest.mark.parametrize(
    "body", [b"", b"OK", b"[1]", b"null", b'{"a":', b'"OK', b"<html>", b"\xff", b'"a" "b"']
)
def test_an_answer_that_is_neither_object_nor_text_is_a_bad_reply(body):
    with pytest.raises(UpstreamBadReply):
        trim(body, EVERYTHING)


@given(
    st.recursive(
        st.none() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.sampled_from(["nodes", "data", "name", "inputs"]), v),
    )
)
def test_no_flow_makes_it_fail_or_lets_anything_through(flow):
    trimmed = json.loads(trim(_settings(flow), EVERYTHING))
    assert trimmed == {"a": 1.5}


IMAGES = {
    "isSpeechToTextEnabled": True,
    "isImageUploadAllowed": True,
    "imgUploadSizeAndTypes": [{"fileTypes": ["x"]}],
}
NO_IMAGES = {"isSpeechToTextEnabled": False, "isImageUploadAllowed": False, "imgUploadSizeAndTypes": []}
DOCUMENTS = {"isRAGFileUploadAllowed": True, "fileUploadSizeAndTypes": [{"fileTypes": [".txt"]}]}
NO_DOCUMENTS = {"isRAGFileUploadAllowed": False, "fileUploadSizeAndTypes": []}
WHOLE = {"status": True, "allowedUploadFileTypes": "text/plain"}
ALLOWED = [
    (NOTHING, NO_IMAGES | NO_DOCUMENTS, False, False),
    (Allowed(uploads=True), IMAGES | NO_DOCUMENTS, True, False),
    (Allowed(upsert=True), NO_IMAGES | NO_DOCUMENTS, False, False),  # its prediction would name the document
    (Allowed(uploads=True, upsert=True), IMAGES | DOCUMENTS, True, False),
    (Allowed(speech=True), NO_IMAGES | NO_DOCUMENTS, False, True),
    (EVERYTHING, IMAGES | DOCUMENTS, True, True),
]


@pytest.mark.parametrize(("allowed", "uploads", "whole", "speech"), ALLOWED)
def test_what_the_route_refuses_is_switched_off(allowed, uploads, whole, speech):
    offered = {"uploads": IMAGES | DOCUMENTS, "fullFileUpload": WHOLE, "isTTSEnabled": True}
    body = json.dumps({"a": 1, **offered, "chatFeedback": {"status": True}}).encode()
    expected = {
        "a": 1,
        "uploads": uploads,
        "fullFileUpload": {**WHOLE, "status": whole},
        "isTTSEnabled": speech,
    }
    assert json.loads(trim(body, allowed)) == {**expected, "chatFeedback": {"status": True}}
    assert json.loads(trim_uploads(json.dumps(IMAGES | DOCUMENTS).encode(), allowed)) == uploads
    if allowed is EVERYTHING:
        assert trim(body, allowed) == body


def test_code_prompts_and_credentials_are_left_out():
    body = json.dumps(
        {
            "followUpPrompts": {
                "status": True,
                "selectedProvider": "openAI",
                "openAI": {"credentialId": "c", "prompt": "p"},
            },
            "postProcessing": {"enabled": True, "customFunction": '"return $flow"'},
        }
    ).encode()
    expected = {"followUpPrompts": {"status": True}, "postProcessing": {"enabled": True}}
    assert json.loads(trim(body, EVERYTHING)) == expected


@pytest.mark.parametrize("raw", [b"null", b"7", b'"x"', b"[]", b"true"])
def test_settings_of_another_shape_are_removed_where_they_are_not_allowed(raw):
    body = b'{"uploads":%b,"fullFileUpload":%b,"postProcessing":%b,"b":2}' % (raw, raw, raw)
    assert trim(body, NOTHING) == b'{"b":2}'


def test_of_a_member_that_occurs_twice_none_switches_on():
    body = b'{"isTTSEnabled":false,"uploads":{"isImageUploadAllowed":false},"isTTSEnabled":true,"uploads":{"isImageUploadAllowed":true}}'
    assert json.loads(trim(body, NOTHING)) == {
        "isTTSEnabled": False,
        "uploads": {"isImageUploadAllowed": False},
    }
