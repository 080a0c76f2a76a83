from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.session_tokens import base64url_decode, base64url_encode

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(st.binary(max_size=100))
def test_decoding_reverses_encoding_without_padding(content):
    assert set(base64url_encode(content)) <= set(ALPHABET)
    assert base64url_decode(base64url_encode(content)) == content


@given(st.text(ALPHABET, max_size=12))
def test_each_content_has_one_text(text):
    try:
        content = base64url_decode(text)
    except ValueError:
        return
    assert base64url_encode(content) == text


@pytest.mark.parametrize(
    "text",
    [
        *("QQ==", "QQ=", "QUI=", "=", "QUJD="),  # padding
        *("QR", "QQ9", "QUJDRR", "QUJ"),  # bits that belong to no byte
        *("Q", "QUJDQ"),  # a length that cannot be
        *("+/+/", "QQ\n", " QQ", "QQ ", "Q Q", "QU\x00JD", "QUJD.", "ＱＱ", "é", "\ud800"),
    ],
)
def test_another_spelling_is_refused(text):
    with pytest.raises(ValueError):
        base64url_decode(text)


def test_the_alphabet_is_that_of_urls():
    assert (base64url_encode(b"\xfb\xff\xbf"), base64url_decode("-_-_")) == ("-_-_", b"\xfb\xff\xbf")
