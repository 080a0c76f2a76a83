from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.http.target import join_target, split_query, split_target


@pytest.mark.parametrize(
    ("target", "segments", "query"),
    [
        ("/", (), ""),
        ("/?x", (), "x"),
        ("/a/b", ("a", "b"), ""),
        ("/a/", ("a", ""), ""),
        ("/a?", ("a",), ""),
        ("/a?b=/c?d", ("a",), "b=/c?d"),
        ("/%61/%C3%A9%20x", ("a", "é x"), ""),
        ("/a.b/...", ("a.b", "..."), ""),
    ],
)
def test_a_target_is_split_raw_and_each_segment_decoded_once(target, segments, query):
    assert split_target(target) == (segments, query)


@pytest.mark.parametrize(
    "target",
    [
        *(
            "",
            "*",
            "a",
            "http://h/api/v1/ping",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/./a",
            "/a/..",
            "/%2e%2E/a",
            "/%2e",
        ),
        *(
            "/a%2Fb",
            "/a%5Cb",
            "/a\\b",
            "/a%00",
            "/a%0A",
            "/a%7F",
            "/a%C2%85",
            "/a%25b",
            "/a%252fb",
            "/%",
            "/%4",
            "/%zz",
        ),
        *(
            "/%ff",
            "/%C3",
            "/%ED%A0%80",
            "/%C0%AE",
            "/é",
            "/a b",
            "/a\tb",
            "/a#b",
            "/a\x00",
            "/\udc80",
            "/a?b c",
        ),
    ],
)
def test_every_other_target_is_a_bad_request(target):
    with pytest.raises(BadRequest):
        split_target(target)


def test_a_query_is_read_by_name_with_plus_as_a_space():
    query = split_query("b=%C3%A9+%2B&a=1=2", ["a", "b", "c"])
    assert query == {"b": "é +", "a": "1=2"}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("a=1&a=1", "parameter a twice. Send it once"),
        ("a=1&%61=1", "parameter a twice. Send it once"),
        ("x=1", "not one of: a, b"),
        ("a=1&", "not one of: a, b"),
        ("A=1", "not one of: a, b"),
        ("a[x]=1", "not one of"),
        ("a=%ff", "a must be UTF-8"),
        ("a=%f", "two hexadecimal digits"),
    ],
)
def test_a_query_with_anything_else_is_refused(query, message):
    with pytest.raises(BadRequest, match=message):
        split_query(query, ["a", "b"])


def test_a_target_is_built_with_every_reserved_byte_encoded():
    target = join_target(["base", "é x+/%"], {"f": "a&b=c+ü"})
    assert target == b"/base/%C3%A9%20x%2B%2F%25?f=a%26b%3Dc%2B%C3%BC"


@pytest.mark.parametrize("segment", ["", ".", ".."])
def test_a_segment_that_a_reader_would_normalise_is_a_value_error(segment):
    with pytest.raises(ValueError, match="not a path segment"):
        join_target(["a", segment], {})


_SEGMENT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="/\\%"), min_size=1
)


@given(st.lists(_SEGMENT.filter(lambda text: text not in {".", ".."}), min_size=1))
def test_what_is_built_is_read_back_the_same(segments):
    target = join_target(segments, {}).decode("ascii")
    assert split_target(target) == (tuple(segments), "")
    assert unquote(target) == "/" + "/".join(segments)


@given(st.text())
def test_no_text_at_all_makes_anything_but_a_bad_request(text):
    try:
        segments, query = split_target("/" + text)
        split_query(query, ["a"])
    except BadRequest:
        return
    assert not any("/" in segment for segment in segments)
