"""Chat ids: callers never share one, and mapped ids stay valid."""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.auth.conversation_ids import ConversationIds
from tests.harness.hkdf import hkdf

SECRET, OTHER_SECRET = b"s" * 32, b"o" * 32
IDS = ConversationIds(SECRET)
RAW = "my conversation"
HEX = "0123456789abcdef"

callers = st.one_of(
    st.sampled_from(["anonymous", "key:ann", "session:ann/ann", "jwt:https://id.example.com:ann"]),
    st.text(max_size=40),
)
raws = st.one_of(st.text(max_size=60), st.uuids().map(str), st.uuids(version=4).map(str))


def free_bits(text):
    """The 122 bits of a UUID that are neither version nor variant, as zeros and ones."""
    bits = f"{int(text.replace('-', ''), 16):0128b}"
    assert bits[48:52] == "0100"
    assert bits[64:66] == "10"
    return bits[:48] + bits[52:64] + bits[66:]


def bits_of(key_purpose, *fields):
    """An HMAC over length-prefixed fields, as zeros and ones."""
    key = hkdf(SECRET, b"flowise-gateway " + key_purpose)
    message = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    return f"{int(hmac.new(key, message, hashlib.sha256).hexdigest(), 16):0256b}"


def own(caller="key:ann", raw=RAW):
    return IDS.mapped(caller, raw)


@given(callers, raws)
def test_the_bits_are_two_hmacs(caller, raw):
    """74 bits of HMAC(secret, "id", caller, raw id), 48 of HMAC(secret, "mac", caller, those 74)."""
    who = caller.encode()
    chosen = bits_of(b"conversation-id", b"id", who, raw.encode())[:74]
    mac = bits_of(b"conversation-mac", b"mac", who, int(chosen, 2).to_bytes(10, "big"))[:48]
    assert free_bits(own(caller, raw)) == chosen + mac


def test_mapped_ids_never_change():
    """A change would lose every conversation."""
    assert own() == "81f3b419-654b-4b59-a4ca-b92d5d189863"


@given(callers, raws)
def test_an_id_is_a_uuid_of_version_4_in_lower_case(caller, raw):
    mapped = uuid.UUID(own(caller, raw))
    assert (mapped.version, mapped.variant) == (4, uuid.RFC_4122)
    assert str(mapped) == own(caller, raw)


@given(callers, raws)
def test_mapping_is_deterministic(caller, raw):
    assert own(caller, raw) == ConversationIds(SECRET).mapped(caller, raw)


@given(callers, raws)
@example("\ud83d", "\ude00")
@example("\ud83d\ude00", "😀")
def test_an_own_id_is_returned_unchanged(caller, raw):
    assert own(caller, own(caller, raw)) == own(caller, raw)


@given(callers, callers, raws)
def test_two_callers_never_share_a_conversation(one, other, raw):
    if one == other:
        return
    assert own(one, raw) != own(other, raw)
    assert own(other, own(one, raw)) not in (own(one, raw), own(other, raw))


@given(raws, raws)
def test_two_ids_of_one_caller_are_two_conversations(one, other):
    if one != other:
        assert own(raw=one) != own(raw=other)


def test_an_own_id_with_one_bit_changed_is_not_own():
    for bit in range(128):
        forged = str(uuid.UUID(int=uuid.UUID(own()).int ^ 1 << bit))
        assert own(raw=forged) not in (forged, own())


def test_an_own_id_with_one_letter_changed_is_not_own():
    for place, letter in enumerate(own()):
        for changed in {*HEX, "-", "g", " ", "\n"} - {letter}:
            forged = own()[:place] + changed + own()[place + 1 :]
            assert own(raw=forged) not in (forged, own())


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        str.title,
        lambda text: text[:-1],
        lambda text: text[1:],
        lambda text: text + "0",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace("-", ""),
        lambda text: "{" + text + "}",
        lambda text: "urn:uuid:" + text,
        lambda text: text.translate({ord(letter): ord("０") + int(letter) for letter in "0123456789"}),
        lambda text: str(uuid.UUID(text[:24] + "0" * 12)),
    ],
)
def test_an_own_id_in_another_spelling_is_not_own(change):
    forged = change(own())
    assert forged != own()
    assert own(raw=forged) not in (forged, own())


@given(st.uuids(version=4))
def test_a_uuid_that_a_client_made_up_is_mapped(made_up):
    assert own(raw=str(made_up)) != str(made_up)


def test_the_lengths_of_fields_count():
    assert own("ab", "c") != own("a", "bc")
    assert own("", "abc") != own("abc", "")
    mac = own("ab", RAW)[-12:]
    assert own("a", RAW)[-12:] != mac


@given(callers, raws)
def test_ids_of_another_secret_are_mapped(caller, raw):
    others = ConversationIds(OTHER_SECRET)
    assert others.mapped(caller, raw) != own(caller, raw)
    assert others.mapped(caller, own(caller, raw)) != own(caller, raw)


def test_unpaired_surrogates_are_mapped():
    texts = ["\ud800", "\udfff", "\ud83d\ude00", "😀", "?", "\ufffd"]
    assert len({own(raw=text) for text in texts}) == len(texts)
    assert len({own(caller=text) for text in texts}) == len(texts)
    assert all(re.fullmatch(r"[0-9a-f-]{36}", own(text, text)) for text in texts)


@given(callers, callers)
def test_a_new_conversation_belongs_to_its_caller_alone(caller, other):
    conversation = IDS.new(caller)
    free_bits(conversation)  # a UUIDv4
    assert IDS.mapped(caller, conversation) == conversation
    assert caller == other or IDS.mapped(other, conversation) != conversation


def test_new_conversations_are_random():
    first, second = (free_bits(IDS.new("key:ann"))[:74] for _ in range(2))
    assert 10 < sum(a != b for a, b in zip(first, second, strict=True)) < 64  # of 74; 37 are to be expected
