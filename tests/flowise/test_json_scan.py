from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.flowise import json_scan
from gateway.flowise.json_scan import MOST_ITEMS, MOST_MEMBERS, TooManyError, items, members
from tests.flowise.test_events import json_values

NAMES = st.sampled_from(["a", "b", "flowData", 'q"', "é", "", "\ud83d"])
SPACES = [None, 0, 3]


def with_changes(text, changes):
    return json_scan.with_changes(text, members(text), changes)


def written(value, indent=None):
    return json.dumps(value, indent=indent).encode()


@given(st.dictionaries(NAMES, json_values, max_size=5), st.sampled_from(SPACES))
def test_the_members_are_those_of_the_object_and_where_they_stand(value, indent):
    text = written(value, indent)
    found = members(text)
    assert [member.name for member in found] == [name.replace("\ud83d", "\ufffd") for name in value]
    assert [json.loads(text[member.value : member.end]) for member in found] == list(value.values())
    assert [json.loads(b"{%b}" % text[member.start : member.end]) for member in found] == [
        {name: inner} for name, inner in value.items()
    ]


@given(st.dictionaries(NAMES, json_values, max_size=5), st.sampled_from(SPACES))
def test_changes_touch_what_they_name_and_nothing_else(value, indent):
    text = written(value, indent)
    changed = with_changes(text, {"a": None, "b": b'"new"', "absent": b"1"})
    expected = {name: "new" if name == "b" else inner for name, inner in value.items() if name != "a"}
    assert json.loads(changed) == expected
    assert list(json.loads(changed)) == list(expected)
    if "a" not in value and "b" not in value:
        assert changed is text


def test_bytes_of_other_members_stay():
    text = b'\xef\xbb\xbf { "x" : [ 1.0 , "\\u0041" ] , "gone":{} ,"y":1e5}'
    assert with_changes(text, {"gone": None}) == b'{"x" : [ 1.0 , "\\u0041" ],"y":1e5}'


def test_an_escaped_name_is_the_same_name_and_a_repeated_one_is_gone_too():
    text = b'{"\\u0061":1,"b":2,"a":3}'
    assert with_changes(text, {"a": None}) == b'{"b":2}'
    assert with_changes(text, {"a": b"7"}) == b'{"\\u0061":7,"b":2}'


@pytest.mark.parametrize("escape", [b"\\ud83d", b"\\uDC00 \\ud83d\\ude00", b"\\ud800" * 30_000])
def test_half_a_surrogate_pair_is_json(escape):
    text = b'{"a":"%b","b":["%b"],"c":1}' % (escape, escape)
    assert [member.name for member in members(text)] == ["a", "b", "c"]
    assert with_changes(text, {"a": None}) == b'{"b":["%b"],"c":1}' % escape


@pytest.mark.parametrize(
    "text",
    [
        b"", b" ", b"[]", b'"OK"', b"1", b"null", b"{", b"}", b'{"a"}', b'{"a":}', b'{"a":1', b'{"a":1,}', b'{"a" 1}',
        b'{"a":1}x', b'{"a":1}{}', b'{"a":1 "b":2}', b'{"a":NaN}', b'{"a":01}', b"{a:1}", b'{"a\\q":1}', b'{"a":"\n"}',
        b'{"a":' + b"[" * 100_000, b'{"a":[' + b"\\ud800" * 10, b'{"a":1}}', b'{"a":1},', b'{"\xff":1}',
    ],
)  # fmt: skip
def test_what_is_no_object_is_an_error(text):
    with pytest.raises(ValueError, match=r"^it is not "):
        members(text)


@given(st.binary(max_size=40), st.text('{}[]":,\\u1ad8 e\n', max_size=40))
def test_no_bytes_make_it_fail_in_another_way(noise, text):
    for content in (noise, b'{"a":' + noise, text.encode(), b'{"a":' + text.encode() + b"}"):
        try:
            found = members(content)
        except ValueError:
            continue
        assert json.loads(content) is not None
        assert len(found) <= MOST_MEMBERS


def test_members_are_bounded():
    assert len(members(written({str(number): 0 for number in range(MOST_MEMBERS)}))) == MOST_MEMBERS
    with pytest.raises(ValueError, match=r"^it has more than 256 members$"):
        members(written({str(number): 0 for number in range(MOST_MEMBERS + 1)}))


@pytest.mark.parametrize("size", [0, 1, 7, 500, MOST_ITEMS])
@pytest.mark.parametrize("item", ["0", '{"a":[1,2]}', '"' + "x" * 40 + '"'])
def test_items_are_raw_and_in_order(size, item):
    found = items(f"[{','.join([item] * size)}]".encode())
    assert [bytes(one) for one in found] == [item.encode()] * size


@pytest.mark.parametrize("item", [b"0", b"[0,0,0]"])
def test_items_are_bounded(item):
    for number in (MOST_ITEMS + 1, 100_000):
        with pytest.raises(TooManyError):
            items(b"[" + b",".join([item] * number) + b"]")


@pytest.mark.parametrize("text", [b"", b"{}", b"5", b"[", b"[1,]", b"[" * 5000, b'["\\ud800"]'])
def test_what_is_no_array_has_no_items(text):
    assert items(text) == []
    assert items(msgspec.Raw(text)) == []
    assert items(text + b" " * 5000) == []
