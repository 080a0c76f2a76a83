from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.flowise.checks import bound_id, file_name, unbound_id


@pytest.mark.parametrize("text", ["a", "A-Z_0.9+x@y", "a" * 128, "2c5e8d0a-1111-4222-8333-444455556666", "."])
def test_an_unbound_id_of_the_pattern_passes_as_it_is(text):
    assert unbound_id(text, "chatId") == text


@pytest.mark.parametrize(
    "text", ["", "a" * 129, "a b", "a/b", "..", "a..b", "é", "a\n", "a%2f", "a\x00", "\ud800"]
)
def test_any_other_unbound_id_is_refused_and_its_field_named(text):
    with pytest.raises(BadRequest, match=r"^chatId must be 1 to 128 of the characters"):
        unbound_id(text, "chatId")


@pytest.mark.parametrize("text", ["é x|y%", "../..", "a" * 256, "😀"])
def test_a_bound_id_is_any_text(text):
    assert bound_id(text, "chatId") == text


@pytest.mark.parametrize("text", ["", "a" * 257, "a\nb", "\x7f", "\x85", "\ud83d"])
def test_a_bound_id_has_no_control_characters_nor_half_surrogates(text):
    with pytest.raises(BadRequest, match=r"^sessionId must be 1 to 256 characters"):
        bound_id(text, "sessionId")


@pytest.mark.parametrize("text", ["a.txt", "100% é.pdf", "é" * 127, ".hidden", 'q"uote'])
def test_a_bare_file_name_passes(text):
    assert file_name(text) == text


@pytest.mark.parametrize("text", ["", "a/b", "a\\b", "..", "a..b", "é" * 128, "a\x00", "a\r\n", "\udc80"])
def test_a_file_name_with_a_path_or_too_long_is_refused(text):
    with pytest.raises(BadRequest, match=r"^fileName must be a bare file name"):
        file_name(text)


@given(st.text())
def test_every_unbound_id_is_a_bound_id_and_a_file_name(text):
    try:
        unbound_id(text, "x")
    except BadRequest:
        return
    assert bound_id(text, "x") == file_name(text) == text
