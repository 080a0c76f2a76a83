"""Session tokens: issued ones are read back, all others are refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.auth.session_tokens import (
    CLOCK_SKEW,
    LONGEST,
    SessionGrant,
    SessionTokens,
    base64url_decode,
    base64url_encode,
)
from gateway.errors import BadRequest, Unauthenticated
from tests.harness.hkdf import hkdf

SECRET, OLD_SECRET, FOREIGN_SECRET = b"s" * 32, b"o" * 32, b"f" * 32
TOKENS = SessionTokens([SECRET])
NOW = 1_800_000_000
GRANT = SessionGrant("Ab3dEf9h", "user-7", frozenset({"support", "sales"}), NOW + 900, NOW)
FORM = {"v": 1, "k": "Ab3dEf9h", "u": "user-7", "r": ["sales", "support"], "e": NOW + 900, "i": NOW}
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

SIGNATURE = r"^The session token's signature is wrong\.$"
MALFORMED = r"^The session token is malformed: it must have the form fgs_<payload>\.<signature>\.$"
UNKNOWN = r"^The session token has a format that this release does not support\.$"
TOO_LONG = r"^The session token is too long: the limit is 4096 characters\.$"

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
moments = st.integers(0, 2**40)


def unpadded(content):
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def signed(payload, secret=SECRET):
    """A token with any payload, signed as the gateway signs."""
    text = "fgs_" + (payload if isinstance(payload, str) else unpadded(payload))
    key = hkdf(secret, b"flowise-gateway session-token")
    return f"{text}.{unpadded(hmac.new(key, text.encode(), hashlib.sha256).digest())}"


def payload_of(token):
    text = token[4:-44]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def refused(token, sentence):
    with pytest.raises(Unauthenticated, match=sentence) as refusal:
        TOKENS.read(token)
    assert len(token) < 40 or token[4:40] not in str(refusal.value)


@given(st.builds(SessionGrant, names, names, st.none() | st.frozensets(names, max_size=5), moments, moments))
def test_an_issued_token_is_read_back(grant):
    assert TOKENS.read(TOKENS.issue(grant)) == grant


def test_a_token_is_compact_json_and_an_hmac_without_escapes():
    token = TOKENS.issue(GRANT)
    assert token == signed(json.dumps(FORM, separators=(",", ":")).encode())
    assert re.fullmatch(r"fgs_[A-Za-z0-9._~-]+", token)
    assert len(token) < 200


def test_no_routes_at_all_is_not_every_route():
    every, none = (SessionGrant("k", "u", routes, NOW, NOW) for routes in (None, frozenset()))
    assert TOKENS.read(TOKENS.issue(every)).routes is None
    assert TOKENS.read(TOKENS.issue(none)).routes == frozenset()


def test_the_first_secret_signs_and_all_verify():
    both, old = SessionTokens([SECRET, OLD_SECRET]), SessionTokens([OLD_SECRET])
    assert both.issue(GRANT) == TOKENS.issue(GRANT) != old.issue(GRANT)
    assert both.read(old.issue(GRANT)) == both.read(TOKENS.issue(GRANT)) == GRANT
    refused(old.issue(GRANT), SIGNATURE)


def test_expiry_is_checked_on_each_use_and_not_when_read():
    grant = TOKENS.read(TOKENS.issue(GRANT))
    grant.check(GRANT.expires_at - 0.001)
    for now in (GRANT.expires_at, GRANT.expires_at + 1e9):
        with pytest.raises(Unauthenticated, match=r"^The session token has expired\.$"):
            grant.check(now)


def test_a_token_from_a_clock_that_was_ahead_is_refused_until_its_time():
    """Else it would live for that much longer than it was meant to."""
    grant = TOKENS.read(TOKENS.issue(GRANT))
    grant.check(NOW - CLOCK_SKEW)
    with pytest.raises(Unauthenticated, match=r"^The session token is not valid yet\.$"):
        grant.check(NOW - CLOCK_SKEW - 1)


def test_every_letter_counts():
    token = TOKENS.issue(GRANT)
    for place, letter in enumerate(token):
        for changed in {*ALPHABET, ".", "=", "+", "/", "%", " ", "\n", "é"} - {letter}:
            refused(token[:place] + changed + token[place + 1 :], f"{SIGNATURE}|{MALFORMED}")


def test_a_part_of_a_token_is_refused():
    token = TOKENS.issue(GRANT)
    for length in range(len(token)):
        refused(token[:length], f"{SIGNATURE}|{MALFORMED}")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token + "=",
        lambda token: token.replace(".", "=="),
        lambda token: token.replace(".", "==."),
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: token + ".",
        lambda token: token + "." + token.rpartition(".")[2],
        lambda token: token.replace(".", ".."),
        lambda token: token.replace("fgs_", "FGS_"),
        lambda token: token.replace("fgs_", ""),
        lambda token: "fgs_" + token,
        lambda token: token.replace(".", "%2e"),
        lambda token: token.replace("fgs_", "fgs_\ud800"),
        lambda _: "",
        lambda _: "fgs_",
        lambda _: "fgs_.",
        lambda token: "fgs_." + token.rpartition(".")[2],
        lambda token: token.rpartition(".")[0] + ".",
    ],
)
def test_a_malformed_token_is_refused(spoil):
    refused(spoil(TOKENS.issue(GRANT)), f"{SIGNATURE}|{MALFORMED}")


def test_the_last_letter_of_a_signature_has_one_spelling():
    """Four letters would decode to the same 32 bytes."""
    token = TOKENS.issue(GRANT)
    wanted = base64.urlsafe_b64decode(token[-43:] + "=")
    same = [
        letter
        for letter in ALPHABET
        if letter != token[-1] and base64.urlsafe_b64decode(token[-43:-1] + letter + "=") == wanted
    ]
    assert len(same) == 3
    for letter in same:
        refused(token[:-1] + letter, SIGNATURE)


def test_a_signature_is_for_one_payload():
    first, second = TOKENS.issue(GRANT), TOKENS.issue(SessionGrant("Ab3dEf9h", "user-8", None, NOW, NOW))
    refused(first.rpartition(".")[0] + "." + second.rpartition(".")[2], SIGNATURE)
    refused(signed(json.dumps(FORM).encode(), FOREIGN_SECRET), SIGNATURE)


@pytest.mark.parametrize(
    "payload",
    [
        json.dumps(FORM | {"v": 2}).encode(),
        json.dumps(FORM | {"v": "1"}).encode(),
        json.dumps(FORM | {"more": 1}).encode(),
        json.dumps({name: value for name, value in FORM.items() if name != "e"}).encode(),
        json.dumps(FORM | {"e": 1.5}).encode(),
        json.dumps(FORM | {"e": True}).encode(),
        json.dumps(FORM | {"r": "support"}).encode(),
        b"[]",
        b"{",
        b"\xff",
        b"[" * 2000,
        "QR",
        "Q",
    ],
)
def test_a_signed_payload_of_another_format_is_refused(payload):
    refused(signed(payload), UNKNOWN)


def test_a_token_that_is_too_long_is_refused_before_any_work():
    payload = json.dumps(FORM | {"u": "u" * 5000}, separators=(",", ":")).encode()
    refused(signed(payload), TOO_LONG)
    refused("fgs_" + "." * LONGEST, TOO_LONG)
    refused("fgs_" + "." * (LONGEST - 4), MALFORMED)


def test_a_grant_that_makes_too_long_a_token_is_refused():
    routes = frozenset(f"route-{number:060}" for number in range(100))
    with pytest.raises(
        BadRequest, match=r"^The session token would be longer than 4096 characters: name fewer"
    ):
        TOKENS.issue(SessionGrant("k", "u", routes, NOW, NOW))


def test_the_longest_token_that_is_issued_can_be_read():
    grant = SessionGrant("Ab3dEf9h", "", None, NOW, NOW)
    room = (LONGEST - len("fgs_.") - 43) // 4 * 3 - len(payload_of(TOKENS.issue(grant)))
    longest = SessionGrant("Ab3dEf9h", "u" * room, None, NOW, NOW)
    assert len(TOKENS.issue(longest)) == LONGEST
    assert TOKENS.read(TOKENS.issue(longest)) == longest
    with pytest.raises(BadRequest):
        TOKENS.issue(SessionGrant("Ab3dEf9h", "u" * (room + 1), None, NOW, NOW))


def test_claims_are_in_the_signed_part_and_a_token_without_them_is_as_before():
    plain = TOKENS.issue(GRANT)
    named = TOKENS.issue(replace(GRANT, claims={"tenant": "acme é"}))
    assert TOKENS.read(named).claims == {"tenant": "acme é"}
    assert TOKENS.read(plain).claims == {}
    assert b'"c"' not in base64url_decode(plain.partition(".")[0].removeprefix("fgs_"))
    other = base64url_encode(base64url_decode(named[4:].partition(".")[0]).replace(b"acme", b"evil"))
    with pytest.raises(Unauthenticated, match="signature is wrong"):
        TOKENS.read(f"fgs_{other}.{named.partition('.')[2]}")


def test_a_user_with_unpaired_surrogates_is_refused():
    with pytest.raises(BadRequest, match=r"^The caller must be text without unpaired surrogates\.$"):
        TOKENS.issue(SessionGrant("k", "\ud800", None, NOW, NOW))


def test_repr_shows_no_token_and_no_key():
    token = TOKENS.issue(GRANT)
    shown = repr(TOKENS) + repr(TOKENS.read(token))
    assert token[4:40] not in shown
    assert token[-43:] not in shown
