"""Texts of a trace, cut to what a span may hold."""

from __future__ import annotations

import json

import msgspec
import pytest

from gateway.flowise.json_scan import MOST_ITEMS
from gateway.flowise.node_content import (
    CUT,
    LONGEST_CONTENT,
    MOST_CONTENT_MESSAGES,
    as_json,
    content_of,
    cut,
    messages_of,
    text_of,
)


def raw(value):
    return msgspec.Raw(json.dumps(value).encode())


def test_a_text_that_is_cut_says_so():
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab" + CUT


@pytest.mark.parametrize(
    ("value", "text"),
    [("<b>hi</b>", "<b>hi</b>"), ("", ""), (None, ""), (7, ""), ({"a": 1}, ""), (["a"], "")],
)
def test_only_a_string_is_a_name(value, text):
    assert text_of(raw(value), 200) == text


def test_half_a_surrogate_pair_and_cut_json_are_no_name():
    assert text_of(msgspec.Raw(rb'"\ud800"'), 200) == ""
    assert text_of(msgspec.Raw(b'"abc'), 200) == ""


def test_a_long_name_is_cut():
    assert text_of(raw("x" * 100_000), 200) == "x" * 199 + CUT


@pytest.mark.parametrize(
    ("value", "content"),
    [("hi", "hi"), (None, ""), ("", ""), ({"input": "2+2"}, '{"input": "2+2"}'), (4, "4")],
)
def test_content_is_a_text_or_json(value, content):
    assert content_of(raw(value)) == content


@pytest.mark.parametrize("value", ["ü" * 100_000, {"a": "ü" * 100_000}])
def test_content_is_cut(value):
    found = content_of(msgspec.Raw(json.dumps(value, ensure_ascii=False).encode()))
    assert len(found) == LONGEST_CONTENT
    assert found.endswith(CUT)


def test_messages_have_the_form_of_the_conventions():
    given = [{"role": "system", "content": "be kind"}, {"role": "user", "content": [{"text": "hi"}]}, 7]
    assert json.loads(messages_of(raw(given))) == [
        {"role": "system", "parts": [{"type": "text", "content": "be kind"}]},
        {"role": "user", "parts": [{"type": "text", "content": '[{"text": "hi"}]'}]},
    ]
    assert messages_of(raw([])) == messages_of(raw("x")) == messages_of(raw(None)) == ""


def test_of_many_messages_the_first_and_the_last_stay():
    given = [{"role": "user", "content": str(number)} for number in range(100)]
    found = [one["parts"][0]["content"] for one in json.loads(messages_of(raw(given)))]
    assert found == ["0", *map(str, range(101 - MOST_CONTENT_MESSAGES, 100))]
    assert messages_of(raw(given * MOST_ITEMS)) == ""


def test_messages_as_json():
    assert json.loads(as_json(("user", 'a"<b>'))) == [
        {"role": "user", "parts": [{"type": "text", "content": 'a"<b>'}]}
    ]
