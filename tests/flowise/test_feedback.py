from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, TooLarge
from gateway.flowise.feedback import (
    named_flow,
    read_assistant_file,
    read_feedback,
    read_feedback_change,
    read_leads,
    read_speech,
    read_speech_abort,
    stored_id,
)
from tests.harness.body_rules import body_rules

RULES = body_rules()
FEEDBACK = b'{"chatflowid":"support","chatId":"c","messageId":"m-1","rating":"THUMBS_UP","content":""}'
LEAD = b'{"chatflowid":"support","chatId":"c","name":"n","email":"e@x.y","phone":""}'


def test_the_feedback_of_the_widget_gets_the_ids_that_flowise_knows():
    feedback = read_feedback(FEEDBACK, RULES)
    assert (feedback.flow, feedback.client_chat_id) == ("support", "c")
    assert feedback.encode("uuid", "mapped") == FEEDBACK.replace(b'"support"', b'"uuid"').replace(
        b'"c"', b'"mapped"'
    )
    assert feedback.encode("support", None) == FEEDBACK


def test_a_feedback_without_a_chatflow_gets_the_one_of_its_path():
    feedback = read_feedback(b'{"chatId":"c", "messageId":"m"}', RULES)
    assert feedback.encode("uuid", "c") == b'{"chatId":"c", "messageId":"m","chatflowid":"uuid"}'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chatId": None}, "chatId is missing"),
        ({"chatId": ""}, "chatId is missing"),
        ({"chatId": 7}, "chatId must be a string"),
        ({"messageId": None}, "messageId is missing"),
        ({"messageId": "a/b"}, "messageId must be"),
        ({"rating": "GOOD"}, "rating must be THUMBS_UP or THUMBS_DOWN"),
        ({"rating": 1}, "rating must be a string"),
        ({"content": {}}, "content must be a string"),
        ({"content": "FILE-STORAGE::"}, "content holds FILE-STORAGE"),
        ({"id": "x"}, "id is not a field of this request. It takes chatflowid, chatId"),
        ({"createdDate": "x"}, "createdDate is not a field"),
    ],
)
def test_a_bad_feedback_is_refused_and_named(change, message):
    with pytest.raises(BadRequest, match=message):
        read_feedback(json.dumps(json.loads(FEEDBACK) | change).encode(), RULES)


@pytest.mark.parametrize("text", ["ab " * 40, "x" * 257])
def test_a_long_feedback_is_too_large(text):
    with pytest.raises(TooLarge, match="content"):
        read_feedback(json.dumps(json.loads(FEEDBACK) | {"content": text}).encode(), RULES)


def test_a_lead_names_its_chatflow_and_keeps_the_rest():
    lead = read_leads(LEAD, RULES)
    assert named_flow(LEAD, "chatflowid") == lead.flow == "support"
    assert json.loads(lead.encode("uuid", "mapped")) == json.loads(LEAD) | {
        "chatflowid": "uuid",
        "chatId": "mapped",
    }


def test_a_lead_may_come_without_a_conversation():
    lead = read_leads(b'{"chatflowid":"f"}', RULES)
    assert (lead.client_chat_id, lead.encode("f", None)) == (None, b'{"chatflowid":"f"}')


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"chatflowid":null}',
        b'{"chatflowid":7}',
        b'{"chatflowid":""}',
        b"[]",
        b'{"chatflowid":"a","chatflowid":"b"}',
    ],
)
def test_a_lead_without_one_chatflow_is_refused(body):
    with pytest.raises(BadRequest):
        named_flow(body, "chatflowid")
    with pytest.raises(BadRequest):
        read_leads(body, RULES)


def test_the_representation_holds_no_text_of_the_user():
    assert "e@x.y" not in repr(read_leads(LEAD, RULES))


NAMES = [
    "chatflowid",
    "chatflowId",
    "chatId",
    "messageId",
    "chatMessageId",
    "text",
    "fileName",
    "rating",
    "x",
]
_VALUES = st.none() | st.text() | st.integers() | st.lists(st.text())


@given(st.dictionaries(st.sampled_from(NAMES), _VALUES))
def test_garbage_is_read_or_refused(value):
    every = (
        *(read_feedback, read_feedback_change, read_leads),
        *(read_speech, read_speech_abort, read_assistant_file),
    )
    for read in every:
        with suppress(BadRequest, TooLarge):
            read(json.dumps(value).encode(), RULES).encode("f", "c")


@pytest.mark.parametrize("bind", [False, True])
def test_an_empty_chat_id_of_a_lead_is_none_and_does_not_reach_flowise(bind):
    record = read_leads(b'{"chatflowid":"f","chatId":"","name":"n"}', body_rules(bind=bind))
    assert record.client_chat_id is None
    assert record.encode("f", None) == b'{"chatflowid":"f","name":"n"}'
    assert json.loads(record.encode("f", "m")) == {"chatflowid": "f", "chatId": "m", "name": "n"}


SPEECH = b'{"chatflowId":"support", "chatId":"c","chatMessageId":"m","text":"Hello there."}'


def test_speech_keeps_its_bytes_but_for_flow_and_conversation():
    record = read_speech(SPEECH, RULES)
    assert (record.flow, record.client_chat_id) == ("support", "c")
    assert record.encode("id", "d") == SPEECH.replace(b'"support"', b'"id"').replace(
        b'"c",', b'"d",'
    ).replace(b", ", b",")
    assert record.encode("support", "c") == SPEECH


def test_a_change_names_neither_flow_nor_conversation():
    body = b'{"content" : "it was wrong"}'
    assert read_feedback_change(body, RULES).encode("flow", None) == body


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (
            b'{"id":"2c5e8d0a-1111-4222-8333-444455556666","rating":"THUMBS_UP"}',
            "2c5e8d0a-1111-4222-8333-444455556666",
        ),
        (b'{"id":"../x"}', ""),
        (b'{"id":7}', ""),
        (b"{}", ""),
        (b"", ""),
        (b"[" * 100_000, ""),
        (b"\xff", ""),
    ],
)
def test_an_id_is_remembered_only_in_the_form_that_a_change_may_name(answer, name):
    assert stored_id(answer) == name
