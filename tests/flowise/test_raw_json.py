from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, GatewayError
from gateway.flowise.raw_json import encode, read_document, shown, text_of

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(st.text(max_size=40).filter(lambda name: name != "__proto__"), _VALUES, max_size=6)
_STYLES = st.sampled_from([(None, None), (1, None), (None, (",", ":")), (2, (" , ", " : "))])


def _written(value, style, ascii_only):
    return json.dumps(value, indent=style[0], separators=style[1], ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    )


@given(_OBJECTS, _STYLES, st.booleans())
def test_members_agree_with_the_standard_reader_and_no_change_is_byte_identical(value, style, ascii_only):
    body = _written(value, style, ascii_only)
    found = read_document(body)
    assert {name: json.loads(found.raw(name) or b"null") for name in found.members} == value
    assert found.with_changes({}) is body
    assert found.with_changes({"not there": None} if "not there" not in value else {}) is body


@given(_OBJECTS, _STYLES, st.text().filter(lambda name: name != "__proto__"), _VALUES)
def test_a_change_touches_one_member_and_keeps_the_raw_text_and_order_of_the_others(value, style, name, new):
    found = read_document(_written(value, style, True))
    changed = read_document(found.with_changes({name: encode(new)}))
    assert list(changed.members) == list(value | {name: new})
    assert _sources(changed, name) == _sources(found, name)
    assert json.loads(changed.raw(name) or b"null") == new


def _sources(found, without):
    """The text of each member as received, but of one."""
    return {
        name: bytes(found.text.source[found.text.origin(member.start) : found.text.origin(member.end)])
        for name, member in found.members.items()
        if name != without
    }


def test_a_change_reads_like_this():
    found = read_document(b' { "a" : 1.50 ,"b":[ 1 ], "chat\\u0049d": null }\n')
    assert (
        found.with_changes({"chatId": b'"x"', "b": None, "new": b"2"}) == b'{"a" : 1.50,"chatId":"x","new":2}'
    )
    assert (
        found.with_changes({"new": b"2", "gone": None, "more": b"3"})
        == b' { "a" : 1.50 ,"b":[ 1 ], "chat\\u0049d": null,"new":2,"more":3}'
    )
    assert found.raw("chatId") is None
    assert found.with_changes({"a": b"1.50", "gone": None}) == found.source


@pytest.mark.parametrize(
    "body",
    [
        *(
            b'{"a":1,"a":1}',
            b'{"a":1,"a":12}',
            b'{"a":12,"a":1}',
            b'{"a":[1 ,2],"a":12}',
            b'{"a":[1 ,2],"a":[1]}',
        ),
        *(
            b'{"a":"x,yyy","a":"x"}',
            b'{"a":1,"b":2,"\\u0061":1}',
            b'{"a":{},"a":{"a":1}}',
            b'{"b":1,"a":1,"a":2,"b":1}',
        ),
    ],
)
def test_a_repeated_name_is_refused_and_named(body):
    with pytest.raises(BadRequest, match=r"has the name [ab] twice"):
        read_document(body)


@given(st.lists(st.tuples(st.sampled_from("abc"), _VALUES), max_size=5))
def test_names_are_refused_exactly_when_one_is_repeated(pairs):
    body = ("{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}").encode()
    if len({name for name, _ in pairs}) == len(pairs):
        assert list(read_document(body).members) == [name for name, _ in pairs]
    else:
        with pytest.raises(BadRequest, match="twice"):
            read_document(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"[1]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"a":NaN}', "not valid JSON"),
        (b'{"a":[-Infinity]}', "not valid JSON"),
        (b'{"a":01}', "not valid JSON"),
        (b'{"a":1,}', "not valid JSON"),
        (b'{"a":1}x', "not valid JSON"),
        (b'{"a":"\x01"}', "not valid JSON"),
        (b'{"a":"\\x"}', "not valid JSON"),
        (b'{"a":1', "not valid JSON"),
        (b'{"a":1}}', "not valid JSON"),
        (b'{"a":"\xff"}', "must be UTF-8, but byte 6"),
        ('{"a":"é"}'.encode("utf-16"), "must be UTF-8"),
        (b'{"__proto__":{"chatId":"x"}}', "__proto__"),
        (b'{"__pr\\u006fto__":1}', "__proto__"),
    ],
)
def test_what_is_no_json_object_in_utf8_is_refused(body, message):
    with pytest.raises(BadRequest, match=message):
        read_document(body)


@pytest.mark.parametrize(
    "body", [b'{"a":secret}', b'{"a":"secret\x01"}', b"secret", b'{"a":"secret', b'["secret"]']
)
def test_a_refusal_does_not_repeat_what_the_body_says(body):
    with pytest.raises(BadRequest) as refused:
        read_document(body)
    assert "secret" not in refused.value.message


def test_a_byte_order_mark_is_skipped_as_flowise_skips_it():
    body = b'\xef\xbb\xbf{"a":1}'
    assert read_document(body).with_changes({}) == body
    assert read_document(body).with_changes({"a": b"2"}) == b'{"a":2}'


def test_half_a_surrogate_pair_is_json_as_in_flowise():
    found = read_document(b'{"a":"cut \\ud83d","b":1}')
    assert (found.raw("a"), found.raw("b")) == (b'"cut \\ud83d"', b"1")
    assert text_of(found.raw("a")) == "cut \ud83d"


def _nested(depth, opening, closing, inner=b""):
    return opening * depth + inner + closing * depth


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"":', b"}")])
def test_64_levels_pass_and_65_do_not(opening, closing):
    assert read_document(b'{"a":' + _nested(63, opening, closing, b"1") + b"}")
    with pytest.raises(BadRequest, match="nested deeper than 64"):
        read_document(b'{"a":' + _nested(64, opening, closing, b"1") + b"}")


def test_brackets_in_strings_and_beside_each_other_are_no_depth():
    text = '"' + "[" * 500 + '\\"' + "]" * 500 + '"'
    assert read_document(f'{{"a":{text},"b":[{",".join(["[]"] * 500)}]}}'.encode())


@given(st.integers(1, 90), st.integers(0, 90))
def test_depth_is_that_of_the_deepest_branch(left, right):
    body = b'{"a":' + _nested(left, b"[", b"]") + b',"b":' + _nested(right, b"[", b"]", b"0") + b"}"
    try:
        read_document(body)
        refused = False
    except BadRequest as error:
        refused = "deeper" in error.message
    assert refused == (1 + max(left, right) > 64)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' + b"[" * 1_000_000,
        b"[" * 1_000_000,
        b'{"a":' + b"]" * 1_000_000,
        b'{"a":[' + b"[]," * 300_000 + b"[]]}",
        b'{"a":"' + b'\\"' * 500_000,
        b'{"a":' + b"[" * 65 + b'"' + b'\\"' * 500_000,
        b'{"a":"' + b"\\\\" * 500_000 + b'"}',
        b'{"a":"' + b"\\ud83d" * 160_000 + b'"}',
        b"{" + b" " * 1_000_000 + b"}",
        b"{" + b",".join(b'"%d":[]' % n for n in range(100_000)) + b"}",
        b'{"a":' + b"1" * 1_000_000 + b"}",
        (b'{"a":' * 20_000) + b"1",
    ],
    ids=range(12),
)
def test_a_megabyte_of_the_worst_kind_is_answered_within_the_time_of_a_test(body):
    with suppress(GatewayError):
        read_document(body)


@given(st.binary() | st.text('{}[]":,\\u00a1 ').map(str.encode))
def test_garbage_is_never_more_than_a_refusal(body):
    with suppress(GatewayError):
        read_document(body)


@pytest.mark.parametrize("name", ["temperature", "overrideConfig[vars][x]", "a.b-c_d$1", "x" * 40])
def test_a_name_that_looks_like_one_is_shown(name):
    assert shown(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a\n\ud800b", "x" * 41, '{"question": "hi", "x":[1]}', "my prompt", "größe", "fgw_" + "a" * 47],
)
def test_a_text_or_a_key_that_stands_for_a_name_is_not(name):
    assert shown(name) == "(a name that is not shown)"
