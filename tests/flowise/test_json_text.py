"""A long text is read in steps, with the same result as a short one; number, depth and size have bounds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, TooLarge
from gateway.flowise.json_text import (
    MAX_BELOW,
    MAX_MEMBERS,
    MAX_NAME,
    MAX_OUTSIDE,
    STEP,
    read_text,
    string_parts,
)
from gateway.flowise.raw_json import joined, read_document

LONG = 'aé€😀\\"\n\ud83d ' * (STEP // 8)
_LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just(LONG)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)
_OBJECTS = st.dictionaries(st.text(max_size=9).filter(lambda name: name != "__proto__"), _VALUES, max_size=4)


def written(value, **style):
    return json.dumps(value, **style).encode("utf-8", "surrogatepass")


@given(_OBJECTS, st.sampled_from(["", "\ufeff"]), st.sampled_from([None, 2]))
def test_a_long_document_has_the_members_and_bytes_of_its_source(value, mark, indent):
    body = mark.encode() + written({**value, "long": LONG}, indent=indent)
    found = read_document(bytearray(body))
    assert {name: json.loads(found.raw(name) or b"null") for name in found.members} == {**value, "long": LONG}
    assert bytes(found.source) == found.with_changes({}) == body
    changed = found.with_changes({"long": b"1", "new": b"2"})
    assert json.loads(changed) == {**value, "long": 1, "new": 2}
    assert b"".join(joined(found.pieces({"new": b"2"}))) == found.with_changes({"new": b"2"})


def test_long_parts_are_not_copied():
    body = written({"a": 1, "long": LONG, "b": 2})
    pieces = joined(read_document(body).pieces({"a": b"3", "b": None}))
    assert [type(piece) for piece in pieces] == [bytes, memoryview, bytes]
    assert pieces[1].obj is body


def test_an_object_in_a_long_document_is_read_and_changed():
    body = written({"x": LONG, "o": {"a": LONG, "b": {"c": 1}}})
    inner = read_document(body).object("o", "o")
    assert json.loads(inner.raw("a")) == LONG
    assert json.loads(b"".join(inner.pieces({"b": b"null"}))) == {"a": LONG, "b": None}
    assert inner.object("b", "b").raw("c") == b"1"
    assert bytes(inner.source) == body[body.index(b'{"a"') : -1]


def test_the_objects_of_an_array_in_a_long_document():
    body = written({"a": [1, {"n": LONG}, [{}], {"n": "x", "m": LONG}, "y"]})
    entries = list(read_document(body).objects("a", "an entry"))
    assert [list(entry.members) for entry in entries] == [["n"], ["n", "m"]]
    assert ["".join(entry.parts("n")) for entry in entries] == [LONG, "x"]
    with pytest.raises(BadRequest, match="an entry has the name n twice"):
        list(read_document(b'{"a":[{"n":1,"n":2}]}').objects("a", "an entry"))


@given(st.text(), st.booleans(), st.integers(1, 2000))
def test_the_text_of_a_string_comes_in_parts(text, ascii_only, times):
    body = json.dumps(text * times, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if b"\xed" in body and not ascii_only:
        return  # a half pair cannot be written in UTF-8
    joined_text = "".join(string_parts(body, 0, len(body)))
    assert joined_text.encode("utf-16", "surrogatepass") == (text * times).encode("utf-16", "surrogatepass")


def object_of(count):
    return b"{%b}" % b",".join(b'"%d":1' % n for n in range(count))


@pytest.mark.parametrize("more", [b"", b" " * STEP])
def test_members_have_a_bound(more):
    assert len(read_document(object_of(MAX_MEMBERS) + more).members) == MAX_MEMBERS
    with pytest.raises(TooLarge, match=f"has {MAX_MEMBERS + 1} members. It may have {MAX_MEMBERS}"):
        read_document(object_of(MAX_MEMBERS + 1) + more)
    assert len(read_document(object_of(MAX_BELOW), most=MAX_BELOW).members) == MAX_BELOW
    with pytest.raises(TooLarge, match="too much structure"):
        read_document(object_of(10 * MAX_MEMBERS) + more)


@pytest.mark.parametrize("more", [b"", b" " * STEP])
@pytest.mark.parametrize(
    "make",
    [
        lambda count: b"[%b]" % b",".join([b"1"] * count),
        lambda count: b"[%b]" % b",".join([b"[1]"] * (count // 2)),
        lambda count: b'{%b,"x":"%b"}' % (object_of(count - 1)[1:-1], b",[{" * 2000),
    ],
)
def test_members_and_elements_below_have_a_bound(make, more):
    assert read_document(b'{"a":1,"b":%b}%b' % (make(MAX_BELOW), more))
    with pytest.raises(TooLarge, match="members and elements below its 2 members"):
        read_document(b'{"a":1,"b":%b}%b' % (make(MAX_BELOW + 2), more))


@pytest.mark.parametrize("more", [b"", b" " * STEP])
def test_a_name_has_a_bound(more):
    assert read_document(b'{"%b":1}%b' % (b"n" * (MAX_NAME - 2), more))
    for size in (MAX_NAME - 1, MAX_NAME, 10 * MAX_NAME):
        with pytest.raises(TooLarge, match="a name of more than"):
            read_document(b'{"%b":1}%b' % (b"n" * size, more))


def test_what_is_outside_of_strings_has_a_bound():
    long = b'"%b"' % (b"x" * STEP)
    outside = len(b'{"":}') - 2
    assert read_document(b'{"":%b%b}' % (b" " * (MAX_OUTSIDE - outside), long))
    for body in (b'{"":%b%b}', b'{"":%b,"x":%b}'):
        with pytest.raises(TooLarge, match=f"{MAX_OUTSIDE} bytes outside"):
            read_document(body % (b"1" * MAX_OUTSIDE, long))


@pytest.mark.parametrize(
    "bad",
    [b'"\x01"', b'"\\x"', b'"\\u00g0"', b'"\\', b'"\\"', b'"\\ud83"', b'"', b"secret", b'"a" "b"', b"1,}"],
)
def test_a_long_document_that_is_not_json_is_refused_without_its_text(bad):
    for body in (
        b'{"long":"%b","a":%b}' % (b"secret" * STEP, bad),
        b'{"a":%b,"b":"%b"}' % (bad, b"x" * STEP),
    ):
        with pytest.raises(BadRequest, match="not valid JSON") as refused:
            read_document(body)
        assert "secret" not in refused.value.message
        assert "byte" not in refused.value.message  # of the brief text, it would mislead


@pytest.mark.parametrize("before", [0, 1, 2, 3, STEP - 1, STEP, STEP + 1, 3 * STEP])
def test_the_byte_that_is_not_utf8_is_named(before):
    body = b'{"a":"%b' % (b"x" * before) + "€".encode() * STEP + b'\xff"}'
    with pytest.raises(BadRequest, match=f"but byte {body.index(255)} is not"):
        read_document(body)
    with pytest.raises(BadRequest, match="must be UTF-8"):
        read_document(b'{"a":"%b' % (b"x" * STEP) + "€".encode()[:2])


def test_the_brief_text_of_a_long_one_is_short():
    text = read_text(b'{"a":"%b"}' % (b"x" * 10 * STEP), "The body")
    assert len(text.brief) < 2 * MAX_NAME
    assert text.origin(len(text.brief)) == len(text.source)
