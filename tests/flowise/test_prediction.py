from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, GatewayError, TooLarge
from gateway.flowise.prediction import Changes, read_json
from tests.harness.body_rules import body_rules

RULES = body_rules()
NOTHING = Changes()


def allowing(*overrides, **choices):
    return body_rules(overrides=overrides, **choices)


WIDGET = b'{"question":"hi","chatId":"c-1","streaming":true}'
PYTHON_SDK = (
    b'{"chatflowId": "f", "question": "hi", "overrideConfig": null, "chatId": null, "streaming": true, '
    b'"history": [], "uploads": []}'
)


@pytest.mark.parametrize(
    "body",
    [
        WIDGET,
        PYTHON_SDK,
        b"{}",
        b' {"question" : "\\u0068i \\ud83d" , "x":[1.0, 1e2] }\n',
        b'{"form":{"a":"b"},"leadEmail":"a@b.c","humanInput":{"type":"proceed","feedback":"ok"},"action":{"id":1}}',
        b'{"overrideConfig":{ "sessionId":"s" },"chatid":7,"ChatId":{},"socketIOClientId":""}',
        b'\xef\xbb\xbf{"question":"bom"}',
        b'{"streaming":"false","evaluation":false}',
    ],
)
def test_a_body_that_needs_no_change_goes_up_byte_for_byte(body):
    prediction = read_json(body, RULES)
    assert (prediction.encode(NOTHING), prediction.dropped) == (body, ())


BLANK = [
    *(f'"{name}":{raw}' for name in ("overrideConfig", "form", "history") for raw in ('""', "false", "0")),
    *(f'"{name}":{raw}' for name in ("uploads", "humanInput") for raw in ('""', "false", "0")),
    '"overrideConfig":[]',
    '"form":[]',
    '"history":{}',
    '"overrideConfig":{"vars":""}',
    '"overrideConfig":{"vars":[]}',
]


@pytest.mark.parametrize("member", BLANK)
def test_what_flowise_takes_for_nothing_passes_byte_for_byte(member):
    """A 200 of a real 3.1.4 for each, of a chain and of an agentflow."""
    body = f'{{"question":"hi",{member}}}'.encode()
    for rules in (RULES, allowing(legacy=("history",), uploads=True)):
        prediction = read_json(body, rules)
        assert (prediction.encode(NOTHING), prediction.dropped) == (body, ())


@pytest.mark.parametrize(
    "raw", ['""', "[]", "false", "0", "null", '{"vars":""}', '{"vars":[]}', '{"sessionId":""}']
)
def test_what_the_gateway_sets_replaces_what_is_nothing(raw):
    prediction = read_json(f'{{"overrideConfig":{raw}}}'.encode(), RULES)
    changes = Changes(session_id="s", vars={"u": "x"})
    assert json.loads(prediction.encode(changes)) == {
        "overrideConfig": {"sessionId": "s", "vars": {"u": "x"}}
    }


@pytest.mark.parametrize("bind", [False, True])
def test_an_empty_id_is_none_and_does_not_reach_flowise(bind):
    """Flowise would give everyone who sends it one conversation."""
    rules = allowing(bind=bind)
    prediction = read_json(b'{"chatId":"", "question":"q","overrideConfig":{"sessionId":""}}', rules)
    assert (prediction.client_chat_id, prediction.session_id, prediction.dropped) == (None, None, ())
    assert prediction.encode(NOTHING) == b'{"question":"q","overrideConfig":{}}'
    assert json.loads(prediction.encode(Changes(chat_id="m", session_id="s"))) == {
        "chatId": "m", "question": "q", "overrideConfig": {"sessionId": "s"},
    }  # fmt: skip


@pytest.mark.parametrize("raw", ["42", "-0", "3.14", "1e3", "12345678901234567890", "true", "false"])
def test_a_question_that_is_a_number_or_a_boolean_is_its_text(raw):
    prediction = read_json(f'{{"question":{raw},"a":1}}'.encode(), RULES)
    assert prediction.question == raw
    assert prediction.encode(NOTHING) == f'{{"question":"{raw}","a":1}}'.encode()


@pytest.mark.parametrize(
    ("raw", "streaming"),
    [("true", True), ('"true"', True), ('"\\u0074rue"', True)]
    + [
        (raw, False)
        for raw in ("false", "null", '"True"', "1", '"false"', '""', "[true]", '"1"', '{"true":true}')
    ],
)
def test_only_true_and_its_text_stream(raw, streaming):
    assert read_json(f'{{"streaming":{raw}}}'.encode(), RULES).streaming is streaming


def test_ids_and_question_are_read_and_null_is_absent():
    prediction = read_json(
        b'{"chat\\u0049d":"c","overrideConfig":{"sessionId":"s"},"question":"a\\ud83d"}', RULES
    )
    assert (prediction.client_chat_id, prediction.session_id, prediction.question) == ("c", "s", "a?")
    prediction = read_json(b'{"chatId":null,"overrideConfig":{"sessionId":null},"question":null}', allowing())
    assert (prediction.client_chat_id, prediction.session_id, prediction.question) == (None, None, "")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"chatId":0}', "^chatId must be a string"),
        ('{"chatId":false}', "^chatId must be a string"),
        ('{"chatId":123}', "^chatId must be a string"),
        ('{"chatId":["a"]}', "^chatId must be a string"),
        ('{"chatId":"a/b"}', "^chatId must be 1 to 128"),
        ('{"chatId":"a","chat\\u0049d":"a"}', "the name chatId twice"),
        ('{"overrideConfig":{},"overrideConfig":{}}', "the name overrideConfig twice"),
        (
            '{"overrideConfig":{"sessionId":"a","sessionId":"b"}}',
            "overrideConfig has the name sessionId twice",
        ),
        ('{"overrideConfig":{"vars":{"a":1,"a":1}}}', "overrideConfig.vars has the name a twice"),
        ('{"overrideConfig":{"sessionId":7}}', "overrideConfig.sessionId must be a string"),
        ('{"overrideConfig":"x"}', "overrideConfig must be a JSON object"),
        ('{"overrideConfig":{"vars":[1]}}', "overrideConfig.vars must be a JSON object"),
        (
            '{"overrideConfig":{"mcpServerConfig":1,"b":null}}',
            "may not set mcpServerConfig, b .* Allowed: sessionId",
        ),
        ('{"overrideConfig":{"vars":{"x":1}}}', "may not set vars.x "),
        ('{"overrideConfig":[1]}', "overrideConfig must be a JSON object"),
        ('{"overrideConfig":true}', "overrideConfig must be a JSON object"),
        ('{"overrideConfig":{"vars":"x"}}', "overrideConfig.vars must be a JSON object"),
        ('{"question":["a"]}', "^question must be a string"),
        ('{"question":{"a":1}}', "^question must be a string"),
        ('{"form":[1]}', "^form must be an object"),
        ('{"humanInput":"x"}', "^humanInput must be an object"),
        ('{"humanInput":[]}', "^humanInput must be an object"),
        ('{"uploads":"x"}', "^uploads must be an array"),
        ('{"uploads":{}}', "^uploads must be an array"),
        ('{"uploads":[{}]}', "Uploads are off on this route"),
        ('{"question":"FILE-STORAGE::x"}', "^question holds FILE-STORAGE::"),
        (
            '{"overrideConfig":{"sessionId":"FILE\\u002dSTORAGE::x"}}',
            "^overrideConfig.sessionId holds FILE-STORAGE::",
        ),
        ("[1]", "must be a JSON object"),
    ],
)
def test_what_the_route_does_not_allow_is_refused_and_named(body, message):
    with pytest.raises(BadRequest, match=message):
        read_json(body.encode(), RULES)


def test_a_question_that_is_a_number_is_limited_as_its_text():
    with pytest.raises(TooLarge, match="question has a word of 51"):
        read_json(b'{"question":%d}' % (10**50), RULES)
    with pytest.raises(TooLarge, match="question holds 120 characters"):
        read_json(b'{"question":0.%s}' % (b"1" * 118), RULES)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"question": "ab " * 34}, "question holds 102 characters"),
        ({"form": {"a": "ab " * 20, "b": "ab " * 20}}, "form holds 122 characters"),
        ({"humanInput": {"feedback": "ab " * 34}}, "humanInput holds"),
        ({"history": [{"role": "userMessage", "content": "ab " * 34}]}, "history holds"),
        ({"question": "x" * 51}, "question has a word of 51"),
        ({"form": {"a": ["x" * 51]}}, "form has a word of 51"),
    ],
)
def test_long_texts_and_words_are_too_large_wherever_they_stand(body, field):
    with pytest.raises(TooLarge, match=field):
        read_json(json.dumps(body).encode(), body_rules(legacy=("history",)))


def test_legacy_fields_are_removed_and_listed_and_the_rest_keeps_its_bytes():
    body = (
        b'{"history":[{"content":"x"}], "question" : "hi" ,"evaluation":true,'
        b'"overrideConfig":{"analytics":{},"sessionId":"s"}}'
    )
    prediction = read_json(body, RULES)
    assert prediction.dropped == ("history", "evaluation", "overrideConfig.analytics")
    assert prediction.encode(NOTHING) == b'{"question" : "hi","overrideConfig":{"sessionId":"s"}}'


def test_legacy_fields_pass_where_the_route_names_them():
    body = b'{"history":[{"content":"x"}],"stopNodeId":"n","overrideConfig":{"analytics":{}}}'
    prediction = read_json(body, body_rules(legacy=("history", "stopNodeId", "analytics")))
    assert (prediction.dropped, prediction.encode(NOTHING)) == ((), body)


def test_a_dropped_field_is_not_checked_any_further():
    assert read_json(b'{"history":"no array"}', RULES).dropped == ("history",)


def test_unknown_fields_follow_the_route():
    body = b'{"x":1,"question":"q","chatflowId":"f"}'
    assert read_json(body, RULES).encode(NOTHING) == body
    dropping = read_json(body, body_rules(unknown="drop"))
    assert (dropping.dropped, dropping.encode(NOTHING)) == (("x",), b'{"question":"q","chatflowId":"f"}')
    with pytest.raises(BadRequest, match=r"Unknown fields: x\. This route takes question, form"):
        read_json(body, body_rules(unknown="refuse"))


def test_of_many_dropped_fields_the_first_are_listed():
    body = json.dumps({f"x{n}": n for n in range(200)}).encode()
    dropped = read_json(body, body_rules(unknown="drop")).dropped
    assert dropped == (*(f"x{n}" for n in range(20)), "and 180 more")


def test_overrides_and_vars_pass_by_name():
    body = b'{"overrideConfig":{"sessionId":"s","temperature":0.5,"vars":{"a":1,"b":{"c":2}}}}'
    prediction = read_json(body, allowing("sessionId", "temperature", "vars.*"))
    assert prediction.encode(NOTHING) == body
    with pytest.raises(
        BadRequest, match=r"may not set sessionId, temperature, vars\.b on this route\. Allowed: vars\.a"
    ):
        read_json(body, allowing("vars.a"))
    with pytest.raises(BadRequest, match="Allowed: none"):
        read_json(body, allowing())


def test_a_var_that_the_gateway_sets_is_refused():
    with pytest.raises(BadRequest, match="may not set a: the gateway does"):
        read_json(b'{"overrideConfig":{"vars":{"a":1}}}', allowing("vars.*", vars={"a": "x"}))


LONG = "x" * 2001


@pytest.mark.parametrize(
    "upload",
    [
        {"type": "file:full", "name": "a.txt", "data": LONG},
        {"type": "file:full", "name": "a.txt", "data": "data:text/plain;base64," + LONG},
        {"type": "file:full", "name": "a.txt", "data": "fine " * 9000 + LONG},
        {"type": "file", "name": LONG, "data": "data:image/png;base64,AAAA"},
        {"name": LONG},
    ],
)
def test_a_long_word_in_an_upload_is_too_large_where_it_is_text(upload):
    body = json.dumps(
        {"uploads": [{"type": "file", "name": "b.png", "data": "data:image/png;base64,A"}, upload]}
    )
    with pytest.raises(TooLarge, match="uploads has a word of 2"):
        read_json(body.encode(), body_rules(uploads=True, max_word=2000))


@pytest.mark.parametrize(
    "upload",
    [
        {"type": "file", "name": "a.png", "data": "data:image/png;base64," + LONG},
        {"type": "file:full", "name": "a.txt", "data": "word " * 100_000},
        {"type": "file:full", "name": None, "data": 5},
        {"type": ["file:full"], "data": LONG},
        "file:full",
    ],
)
def test_an_upload_that_is_long_otherwise_passes(upload):
    body = json.dumps({"uploads": [upload]}).encode()
    assert read_json(body, body_rules(uploads=True, max_word=2000)).encode(NOTHING) == body


def test_uploads_pass_where_they_are_on():
    body = b'{"uploads":[{"type":"file","name":"a.png","data":"data:image/png;base64,AAAA"}]}'
    assert read_json(body, body_rules(uploads=True)).encode(NOTHING) == body


def test_bound_ids_may_be_any_text():
    body = '{"chatId":"é x/..","overrideConfig":{"sessionId":"a b"}}'.encode()
    prediction = read_json(body, body_rules(bind=True))
    assert (prediction.client_chat_id, prediction.session_id) == ("é x/..", "a b")


@pytest.mark.parametrize(
    ("body", "changes", "expected"),
    [
        (b'{"a":1 , "chatId" : "c"}', Changes(chat_id="m"), b'{"a":1,"chatId":"m"}'),
        (b'{"a": 1}', Changes(chat_id="m"), b'{"a": 1,"chatId":"m"}'),
        (b'{"chatId":null}', Changes(chat_id="m"), b'{"chatId":"m"}'),
        (b'{ "chat\\u0049d":"c" }', Changes(chat_id="c"), b'{ "chat\\u0049d":"c" }'),
        (b'{"chatId":"\\u0063"}', Changes(chat_id="c"), b'{"chatId":"\\u0063"}'),
        (b"{ }", Changes(chat_id="m", streaming=True), b'{"streaming":true,"chatId":"m"}'),
        (b'{"streaming":"true"}', Changes(streaming=True), b'{"streaming":"true"}'),
        (b'{"streaming":"true","a":2}', Changes(streaming=False), b'{"streaming":false,"a":2}'),
        (b'{"streaming":"false"}', Changes(streaming=False), b'{"streaming":"false"}'),
        (b'{"b":1}', Changes(streaming=False), b'{"b":1}'),
        (b'{"b":1}', Changes(session_id="s"), b'{"b":1,"overrideConfig":{"sessionId":"s"}}'),
        (b'{"overrideConfig":null}', Changes(session_id="s"), b'{"overrideConfig":{"sessionId":"s"}}'),
        (
            b'{"overrideConfig":{"t" : 1, "sessionId":"r"},"z":0}',
            Changes(chat_id="m", session_id="m", vars={"u": "key:é"}),
            '{"overrideConfig":{"t" : 1,"sessionId":"m","vars":{"u":"key:é"}},"z":0,"chatId":"m"}'.encode(),
        ),
        (
            b'{"overrideConfig":{"vars":{"a" : 1}}}',
            Changes(vars={"u": "x", "a": "y"}),
            b'{"overrideConfig":{"vars":{"a":"y","u":"x"}}}',
        ),
    ],
)
def test_only_changed_members_are_encoded_again(body, changes, expected):
    assert read_json(body, allowing("sessionId", "t", "vars.*")).encode(changes) == expected


@pytest.mark.parametrize("raw", [b"1", b'"True"', b"[]", b'"no"', b"{}"])
def test_a_streaming_that_makes_flowise_hang_on_errors_becomes_false(raw):
    assert read_json(b'{"streaming":%b}' % raw, RULES).encode(NOTHING) == b'{"streaming":false}'


def test_the_representation_holds_no_text_of_the_user():
    assert "secret" not in repr(read_json(b'{"question":"secret","overrideConfig":{"sessionId":"s"}}', RULES))


_BODIES = st.fixed_dictionaries(
    {},
    optional={
        "question": st.text(max_size=20),
        "chatId": st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True) | st.none(),
        "streaming": st.sampled_from([True, False, "true", "false", None]),
        "overrideConfig": st.fixed_dictionaries(
            {}, optional={"sessionId": st.from_regex(r"[a-z]{1,8}", fullmatch=True)}
        ),
        "other": st.lists(st.text() | st.integers() | st.dictionaries(st.text(), st.booleans())),
    },
)


@given(_BODIES, st.sampled_from([None, 1]), st.booleans())
def test_an_allowed_body_keeps_its_bytes_or_only_gains_the_ids(value, indent, ascii_only):
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    prediction = read_json(body, RULES)
    assert prediction.encode(NOTHING) == body
    assert json.loads(prediction.encode(Changes(chat_id="m", streaming=True))) == value | {
        "chatId": "m",
        "streaming": value.get("streaming") if prediction.streaming else True,
    }


_NAMES = st.sampled_from(
    ["question", "chatId", "overrideConfig", "vars", "sessionId", "form", "history", "x"]
)
_GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(_NAMES, inner),
    max_leaves=8,
)


@given(st.binary() | st.dictionaries(_NAMES, _GARBAGE).map(lambda value: json.dumps(value).encode()))
def test_garbage_is_read_or_refused_but_never_fails(body):
    with suppress(BadRequest, TooLarge):
        prediction = read_json(body, body_rules(bind=True, unknown="drop"))
        json.loads(prediction.encode(Changes(chat_id="m", session_id="s", vars={"a": "b"})))


@pytest.mark.parametrize(
    "body",
    [
        b'{"question":"' + b"x" * 1_000_000 + b'"}',
        b'{"question":"' + b"\\u0046" * 160_000 + b'"}',
        b'{"question":"' + b"FILE-STORAGE:" * 80_000 + b'"}',
        b'{"overrideConfig":{' + b",".join(b'"%d":1' % n for n in range(90_000)) + b"}}",
        b'{"form":[' + b"[]," * 300_000 + b"1]}",
    ],
    ids=range(5),
)
def test_a_megabyte_of_the_worst_kind_is_answered_within_the_time_of_a_test(body):
    with pytest.raises(GatewayError) as refused:
        read_json(body, RULES)
    assert len(refused.value.message) < 1000
