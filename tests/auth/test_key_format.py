from __future__ import annotations

import hashlib
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.key_format import (
    ALPHABET,
    KeyFormError,
    MalformedKeyError,
    MistypedKeyError,
    hash_of,
    make_key,
    parse_key,
    redact_keys,
)
from tests.harness.api_keys import mistyped

KNOWN = "fgw_a8Xk2LmQ_0123456789ABCDEFGHIJKLMNOPQRSTUV44AK52"  # its checksum was computed by other means
keys = st.randoms(use_true_random=False).map(lambda source: make_key(source.choice))


def test_a_known_key_is_one():
    assert parse_key(KNOWN) == "a8Xk2LmQ"


def test_a_key_is_51_letters_of_its_form():
    key = make_key(random.Random(1).choice)
    begin, key_id, rest = key.split("_")
    assert (begin, len(key_id), len(rest), len(key)) == ("fgw", 8, 38, 51)
    assert set(key_id + rest) <= set(string.ascii_letters + string.digits)


def test_every_letter_of_id_and_secret_is_asked_for_with_the_whole_alphabet():
    asked = []

    def choose(letters):
        asked.append(letters)
        return letters[len(asked)]

    key = make_key(choose)
    assert asked == [ALPHABET] * 40
    assert key[4:12] + key[13:45] == ALPHABET[1:41]
    assert len(set(ALPHABET)) == 62


@given(keys)
def test_a_key_gives_its_id(key):
    assert parse_key(key) == key[4:12]


@given(keys, st.data())
def test_any_letter_changed_is_refused(key, data):
    at = data.draw(st.integers(0, len(key) - 1))
    other = data.draw(
        st.one_of(st.sampled_from(ALPHABET + "_- \n"), st.characters()).filter(lambda c: c != key[at])
    )
    is_letter = other in ALPHABET and key[at] in ALPHABET and at > 3
    with pytest.raises(MistypedKeyError if is_letter else MalformedKeyError):
        parse_key(key[:at] + other + key[at + 1 :])


@given(keys, st.data())
def test_two_neighbours_swapped_are_refused(key, data):
    at = data.draw(st.integers(13, len(key) - 2).filter(lambda at: key[at] != key[at + 1]))
    with pytest.raises(MistypedKeyError):
        parse_key(key[:at] + key[at + 1] + key[at] + key[at + 2 :])


@given(keys, st.data())
def test_a_key_that_was_not_copied_whole_is_refused(key, data):
    begin, end = sorted((data.draw(st.integers(0, 51)), data.draw(st.integers(0, 51))))
    if (begin, end) != (0, 51):
        with pytest.raises(MalformedKeyError):
            parse_key(key[begin:end])


@pytest.mark.parametrize(
    "text", ["", "fgw_", KNOWN + "\n", " " + KNOWN, KNOWN + "0", KNOWN.upper(), "fgs_" + KNOWN[4:]]
)
def test_another_form_is_refused(text):
    with pytest.raises(MalformedKeyError, match="begin with fgw_ and have 51 characters"):
        parse_key(text)


def test_digits_of_other_scripts_are_refused():
    with pytest.raises(MalformedKeyError):
        parse_key(KNOWN.replace("0", "\u0660"))


@given(st.text())
def test_the_error_is_the_same_for_every_text(text):
    with pytest.raises(
        KeyFormError, match=r"^This is not an API key of this gateway: .* have 51 characters\.$"
    ):
        parse_key(text)


@given(keys)
def test_the_error_for_a_typo_does_not_repeat_the_key(key):
    with pytest.raises(MistypedKeyError) as refused:
        parse_key(mistyped(key))
    assert str(refused.value) == "This API key has a typo: its checksum is wrong. Copy the whole key again."


def test_the_stored_form_is_the_hash_of_the_whole_key():
    assert hash_of(KNOWN) == "sha256:" + hashlib.sha256(KNOWN.encode()).hexdigest()


@given(keys, st.integers(20, 51))
def test_redacted_text_has_no_part_of_a_key_or_hash(key, length):
    secret, digits = key[13:45], hash_of(key).removeprefix("sha256:")
    text = redact_keys(f'a "{key[:length]}…" b {hash_of(key)} c {digits} d {hash_of(key)[:length]}')
    assert not [part for part in (secret[:7], digits[:13]) if part in text]
    assert text == 'a "fgw_……" b sha256:… c … d sha256:…'


def test_other_text_is_not_redacted():
    text = "write sha256: and 64 of 0-9 a-f; key a8Xk2LmQ, those behind the key's fgw_; fgw_a8Xk2LmQ"
    assert redact_keys(text) == text
