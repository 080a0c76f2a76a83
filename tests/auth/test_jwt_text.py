"""The text of a token, taken apart: what is right, and every way to be malformed."""

from __future__ import annotations

import json
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.jwt import LONGEST_KEY_ID, LONGEST_TOKEN, take_apart
from gateway.errors import Unauthenticated
from tests.harness.jwt_tokens import b64

HEADER, CLAIMS = b'{"alg":"RS256","kid":"k1"}', b'{"sub":"ann"}'
SIGNATURE = b"signature"

PARTS = r"^The token is malformed: a signed JSON Web Token has three parts\.$"
EXTENSION = r"^The token's header asks for an extension \(crit, b64\) that is not supported\.$"
TOO_LONG = r"^The token is too long: it has at most 8192 characters\.$"
ALGORITHM = r"^The token is malformed: its header names no algorithm \(alg\)\.$"
KEY_ID = r"^The token is malformed: its key id \(kid\) is a text of at most 256 characters\.$"


def of(header=HEADER, claims=CLAIMS, signature=SIGNATURE):
    return ".".join(b64(part) for part in (header, claims, signature))


def not_base64(part):
    return rf"^The token is malformed: its {part} is not base64url without padding\.$"


def not_an_object(part):
    return rf"^The token is malformed: its {part} is not a JSON object in UTF-8 with every name once\.$"


def refused(token, sentence):
    with pytest.raises(Unauthenticated, match=sentence):
        take_apart(token)


def test_a_token_comes_apart():
    token = take_apart(of())
    assert (token.algorithm, token.key_id, token.claims) == ("RS256", "k1", {"sub": "ann"})
    assert token.signed + b"." + b64(token.signature).encode() == of().encode()
    assert token.signature == SIGNATURE


def test_a_header_may_name_no_key():
    assert take_apart(of(b'{"alg":"RS256"}')).key_id is None


def test_what_is_printed_shows_nothing_of_it():
    assert not re.search("ann|RS256|signature", repr(take_apart(of())))


def test_a_token_that_is_too_long_is_refused_before_any_work():
    room = LONGEST_TOKEN - len(of(signature=b""))
    assert len(take_apart(of(signature=b"s" * (room * 3 // 4))).signature) > 5000
    refused(of() + "." * LONGEST_TOKEN, TOO_LONG)
    refused("a" * (LONGEST_TOKEN + 1), TOO_LONG)
    refused("." * LONGEST_TOKEN, PARTS)


@pytest.mark.parametrize(
    "token",
    ["", "a", "..", ".a", "a.b", "a.b.c.d", "a.b.c.d.e", of().rpartition(".")[0], of() + ".", of() + ".QQ"],
)
def test_a_token_has_three_parts(token):
    refused(token, not_an_object("header") if token == ".." else PARTS)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    "spoil", ["{}=", "{}==", "={}", "{} ", "{}\n", "+{}", "/{}", "%{}", "é{}", "\ud800{}", "{}A"]
)
def test_a_part_has_one_spelling(place, spoil):
    parts = of().split(".")
    parts[place] = spoil.format(parts[place][: len(parts[place]) // 4 * 4])
    refused(".".join(parts), not_base64(("header", "payload", "signature")[place]))


def test_bits_that_belong_to_no_byte_are_refused():
    assert b64(b"s") == "cw"
    refused(of(signature=b"s")[:-1] + "x", not_base64("signature"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"1",
        b'"text"',
        b"[]",
        b'[{"alg":"RS256"}]',
        b"{",
        b"{}{}",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":"\n"}',
        b'{"a":"\xff"}',
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":{"b":1,"b":2}}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-32-le"),
        b'{"a":' + b"9" * 5000 + b"}",
        b"[" * 5000,
        b'{"a":' * 1000,
    ],
)
@pytest.mark.parametrize("part", ["header", "payload"])
def test_header_and_payload_are_json_objects_with_every_name_once(part, content):
    refused(of(**{"header" if part == "header" else "claims": content}), not_an_object(part))


def test_a_token_in_a_token_is_refused():
    refused(of(b'{"alg":"RS256","cty":"JWT"}', of().encode()), not_an_object("payload"))


@pytest.mark.parametrize(
    "header", [b"{}", b'{"alg":null}', b'{"alg":["RS256"]}', b'{"alg":{}}', b'{"alg":256}']
)
def test_an_algorithm_is_a_text(header):
    refused(of(header), ALGORITHM)


@pytest.mark.parametrize("key_id", [None, 1, True, ["k1"], {"k1": 1}, "k" * (LONGEST_KEY_ID + 1)])
def test_a_key_id_is_a_text(key_id):
    refused(of(json.dumps({"alg": "RS256", "kid": key_id}).encode()), KEY_ID)


def test_the_longest_key_id():
    longest = "k" * LONGEST_KEY_ID
    assert take_apart(of(json.dumps({"alg": "RS256", "kid": longest}).encode())).key_id == longest


@pytest.mark.parametrize(
    "asked",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": None},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
    ],
)
def test_extensions_are_refused(asked):
    refused(of(json.dumps({"alg": "RS256", **asked}).encode()), EXTENSION)


@given(st.text(max_size=100) | st.text("abcdeyJ.-_=", max_size=60))
def test_whatever_comes_is_taken_apart_or_refused(text):
    with suppress(Unauthenticated):
        take_apart(text)
