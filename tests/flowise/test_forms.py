from __future__ import annotations

import json
from contextlib import suppress
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, TooLarge
from gateway.flowise.forms import read_fields, read_upload_fields, read_urlencoded, upload_fields
from gateway.flowise.prediction import Changes
from tests.harness.body_rules import body_rules

RULES = body_rules()


def test_a_urlencoded_prediction_is_the_one_of_the_capture_as_json():
    prediction = read_urlencoded(b"question=hi+%5B%5Btokens%3D3%5D%5D&streaming=true", RULES)
    assert (prediction.streaming, prediction.question) == (True, "hi [[tokens=3]]")
    assert json.loads(prediction.encode(Changes(chat_id="m"))) == {
        "question": "hi [[tokens=3]]",
        "streaming": "true",
        "chatId": "m",
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", {}),
        (b"&&question=a&", {"question": "a"}),
        (b"question", {"question": ""}),
        (b"question=a=b%26%2B+", {"question": "a=b&+ "}),
        (b"x=\xc3\xa9%C3%A9", {"x": "éé"}),
    ],
)
def test_urlencoded_fields_are_texts(body, expected):
    assert json.loads(read_urlencoded(body, RULES).encode(Changes())) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"question=a&question=b", "question twice"),
        (b"question=a&%71uestion=b", "question twice"),
        (b"overrideConfig[sessionId]=x", r"overrideConfig\[sessionId\] has brackets"),
        (b"overrideConfig%5Bvars%5D=x", "has brackets"),
        (b"a]=x", "has brackets"),
        (b"=x", "without a name"),
        (b'{"question": "a=b"}', "is JSON, sent as a form"),
        (b'{"question": "[a]"}', "is JSON, sent as a form"),
        (b"a=%", "two hexadecimal digits"),
        (b"a=%ff", "UTF-8"),
        (b"\xff=a", "UTF-8"),
        (
            b"overrideConfig=%7B%7D",
            "overrideConfig must be an object, which a form cannot carry. Send application/json",
        ),
        (b"form=x", "form must be an object"),
        (b"uploads=x", "uploads must be an array"),
        (b"chatId=a/b", "chatId must be"),
        (b"question=FILE-STORAGE::x", "question holds FILE-STORAGE"),
        (b"__proto__=x", "__proto__"),
    ],
)
def test_a_bad_urlencoded_body_is_refused_and_named(body, message):
    with pytest.raises(BadRequest, match=message):
        read_urlencoded(body, RULES)


def test_forms_have_the_limits_of_json():
    with pytest.raises(TooLarge, match="question has a word of 51"):
        read_urlencoded(b"question=" + b"x" * 51, RULES)
    with pytest.raises(TooLarge, match="more than 256 fields"):
        read_urlencoded(b"&".join(b"a%d=1" % n for n in range(257)), RULES)
    assert read_urlencoded(b"&".join(b"a%d=1" % n for n in range(256)), RULES)


def test_legacy_fields_of_a_form_are_removed():
    prediction = read_urlencoded(b"history=x&question=q&evaluation=true", RULES)
    assert prediction.dropped == ("history", "evaluation")
    assert json.loads(prediction.encode(Changes())) == {"question": "q"}


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="[]"), min_size=1).map("x".__add__),
        st.text(),
        max_size=6,
    )
)
def test_what_a_client_library_writes_arrives_the_same(fields):
    rules = body_rules(max_question=1000, max_word=1000)
    assert json.loads(read_urlencoded(urlencode(fields).encode(), rules).encode(Changes())) == fields


@given(st.binary() | st.text("%aAfF[]=&+;question").map(str.encode))
def test_garbage_is_read_or_refused(body):
    with suppress(BadRequest, TooLarge):
        read_urlencoded(body, RULES)


def test_file_less_fields_become_the_same_prediction_as_json():
    prediction = read_fields([("question", "q"), ("streaming", "true"), ("sessionId", "s")], RULES)
    assert (prediction.streaming, prediction.session_id) == (True, None)  # Flowise: no override without files
    assert json.loads(prediction.encode(Changes())) == {
        "question": "q",
        "streaming": "true",
        "sessionId": "s",
    }


def test_beside_files_every_other_field_is_an_override():
    fields = [
        ("question", "q"),
        ("chatId", "c"),
        ("streaming", "true"),
        ("sessionId", "s"),
        ("vars", '{"a": 1e400}'),
    ]
    rules = body_rules(overrides=("sessionId", "vars.a"))
    prediction = read_upload_fields(fields, rules)
    assert (prediction.client_chat_id, prediction.session_id, prediction.streaming) == ("c", "s", True)
    assert upload_fields(prediction.encode(Changes())) == fields
    changed = upload_fields(
        prediction.encode(Changes(chat_id="m", session_id="n", streaming=False, vars={"u": "w"}))
    )
    assert dict(changed) == {
        "question": "q",
        "chatId": "m",
        "streaming": "false",
        "sessionId": "n",
        "vars": '{"a": 1e400,"u":"w"}',
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "mcpServerConfig",
            "x",
            "overrideConfig may not set mcpServerConfig on this route. Allowed: sessionId",
        ),
        ("overrideConfig", "{}", "may not set overrideConfig"),
        ("leadEmail", "x", "may not set leadEmail"),
        ("vars", '{"a":1}', "may not set vars.a"),
        ("vars", "a=1", "vars is not valid JSON"),
        ("vars", "[1]", "vars must be a JSON object"),
        ("vars", '{"a":"\\u0046ILE-STORAGE::"}', "holds FILE-STORAGE::"),
        ("sessionId", "a/b", "overrideConfig.sessionId must be"),
        ("sessionId[]", "a", "has brackets"),
    ],
)
def test_an_override_that_is_not_allowed_is_refused_beside_files_too(name, text, message):
    with pytest.raises(BadRequest, match=message):
        read_upload_fields([(name, text)], RULES)


def test_legacy_fields_are_removed_beside_files_too():
    prediction = read_upload_fields([("history", "x"), ("analytics", "y"), ("question", "q")], RULES)
    assert (prediction.dropped, upload_fields(prediction.encode(Changes()))) == (
        ("history", "analytics"),
        [("question", "q")],
    )
