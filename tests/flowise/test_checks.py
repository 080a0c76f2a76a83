from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, TooLarge
from gateway.flowise.checks import check_texts, longest_word, refuse_storage_references
from gateway.flowise.json_text import STEP
from gateway.flowise.raw_json import encode, read_document

STORAGE = "FILE-STORAGE::"


def check(value, name, max_question, max_word):
    check_texts(read_document(encode({name: value})), name, max_question, max_word)


@pytest.mark.parametrize(
    "value", ["x" * 20, {"a": "x" * 9, "b": ["y" * 9]}, [{"role": "u"}, {"role": 12345678901}], "😀" * 20, ""]
)
def test_twenty_characters_of_text_pass(value):
    check(value, "form", 20, 20)


@pytest.mark.parametrize(
    "value", ["x" * 21, {"a": "x" * 10, "b": ["y" * 9]}, ["x" * 7] * 3, {"x" * 20: 1}, [10**20], "😀" * 21]
)
def test_one_more_is_too_large_and_named(value):
    with pytest.raises(TooLarge, match=r"form holds 21 characters of text\. At most 20"):
        check(value, "form", 20, 99)


def test_a_long_word_is_too_large_though_the_text_is_not():
    check("ab " * 100 + "abcde\nabcde\u00a0abcde", "question", 1000, 5)
    with pytest.raises(TooLarge, match=r"question has a word of 6 characters\. At most 5"):
        check({"a": ["b", "abcdef"]}, "question", 1000, 5)


def test_a_value_that_is_nearly_all_structure_is_refused_before_it_is_built():
    with pytest.raises(TooLarge, match="form holds 70002 bytes"):
        check_texts(read_document(b'{"form":[%b]}' % (b" " * 70_000)), "form", 20, 20)


@pytest.mark.parametrize(
    "body",
    [
        b'{"x":"a FILE-STORAGE::b"}',
        b'{"x":{"y":[{"FILE-STORAGE::":1}]}}',
        b'{"x":"\\u0046ILE-STORAGE::"}',
        b'{"x":"FILE\\u002dSTORAGE\\u003a\\u003A"}',
        b'{"x":"FILE\\u002DSTORA\\u0047E::"}',
        b'{"x":"{\\"y\\":\\"\\\\u0046ILE-STORAGE::\\"}"}',
    ],
)
def test_a_storage_reference_is_refused_and_its_member_named_however_it_is_written(body):
    with pytest.raises(BadRequest, match=r"^x holds FILE-STORAGE::"):
        refuse_storage_references(read_document(body))


def test_a_storage_reference_in_a_name_or_an_inner_object_is_named():
    with pytest.raises(BadRequest, match=r"^FILE-STORAGE::x holds"):
        refuse_storage_references(read_document(b'{"FILE-STORAGE::x":1}'))
    document = read_document(b'{"o":{"pdf":"FILE-STORAGE::x"}}')
    with pytest.raises(BadRequest, match=r"^overrideConfig.pdf holds"):
        refuse_storage_references(document, ("overrideConfig.", document.object("o", "o")))


@given(st.lists(st.booleans(), min_size=len(STORAGE), max_size=len(STORAGE)), st.text(), st.text())
def test_every_way_to_escape_it_is_seen(escaped, before, after):
    written = "".join(f"\\u{ord(c):04x}" if hide else c for c, hide in zip(STORAGE, escaped, strict=True))
    body = b'{"x":"%b%b%b"}' % (encode(before)[1:-1], written.encode(), encode(after)[1:-1])
    with pytest.raises(BadRequest):
        refuse_storage_references(read_document(body))


@pytest.mark.parametrize(
    "text", ["file-storage::", "FILE-STORAGE:", "FILE STORAGE::", "\\u0046", "FILE-\u0001STORAGE::"]
)
def test_what_only_looks_like_one_passes(text):
    refuse_storage_references(read_document(encode({"x": text})))


@pytest.mark.parametrize("before", range(STEP - 30, STEP + 3))
def test_a_storage_reference_that_two_steps_divide_is_seen(before):
    for written in (STORAGE, "\\u0046ILE\\u002dSTORAGE:\\u003a"):
        with pytest.raises(BadRequest, match=r"^x holds FILE-STORAGE::"):
            refuse_storage_references(
                read_document(b'{"x":"%b%b%b"}' % (b"a" * before, written.encode(), b"b" * STEP))
            )


@pytest.mark.parametrize(
    "written",
    [
        "\\\\u0046\\\\u0049\\\\u004cE-STORAGE::",
        "\\u005cu0046ILE-STORAGE::",
        "\\u005Cu005cu0046ILE-STORAGE::",
        "FILE\\\\\\\\u002dSTORAGE::",
    ],
)
def test_a_storage_reference_that_is_escaped_twice_is_seen(written):
    with pytest.raises(BadRequest, match=r"^x holds FILE-STORAGE::"):
        refuse_storage_references(read_document(b'{"x":"%b"}' % written.encode()))


@given(st.lists(st.text("a \u00a0", max_size=6)))
def test_the_longest_word_is_that_of_the_whole_text(parts):
    assert longest_word(parts) == max(map(len, "".join(parts).split()), default=0)
