"""Texts that are no token of one spelling, each signed by the issuer where that is possible."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.jwt import LONGEST_TOKEN, MOST_IN_CLAIMS, MOST_IN_HEADER
from gateway.errors import Unauthenticated
from tests.harness.jwt_tokens import CLAIMS, Published, Verifier, ed_key, jwk, signature, signed_text

HEADER = {"alg": "EdDSA", "kid": "k1"}
MALFORMED = r"^The token is malformed: it must have three parts in base64url without padding, of which"
EXTENSION = r"^The token requires an extension \(crit, b64\) that is not supported\.$"
ALGORITHM = r"^The token's algorithm \(alg\) is not allowed for its issuer\.$"
KEY_ID = r"^The token is malformed: its key id \(kid\) must be a string of at most 256 characters\.$"
TOO_MUCH = r"^The token is malformed: its header may hold 64 commas and opening brackets, its claims 1000\.$"
TOO_LONG = r"^The token is too long: the limit is 16384 characters\.$"


def of(header=HEADER, claims=CLAIMS):
    return signed_text(header, claims, lambda signed: signature(ed_key(), "EdDSA", signed))


@pytest.fixture
async def verify():
    verifier = Verifier(Published(jwk(ed_key(), kid="k1")))
    await verifier.tick()
    return verifier.verify


async def refused(verify, token, sentence):
    with pytest.raises(Unauthenticated, match=sentence):
        await verify(token)


async def test_a_token_that_is_too_long_is_refused_before_it_is_split(verify):
    assert (await verify(of())).subject == "ann"
    await refused(verify, "." * (LONGEST_TOKEN + 1), TOO_LONG)
    await refused(verify, "." * LONGEST_TOKEN, MALFORMED)


@pytest.mark.parametrize(
    "token", ["", "a", "..", ".a", "a.b", "a.b.c.d", "a.b.c.d.e", of() + ".", of() + ".QQ"]
)
async def test_a_token_has_three_parts(verify, token):
    await refused(verify, token, MALFORMED)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    "spoil", ["{}=", "{}==", "={}", "{} ", "{}\n", "+{}", "/{}", "%{}", "é{}", "\ud800{}", "{}A"]
)
async def test_a_part_has_one_spelling(verify, place, spoil):
    parts = of().split(".")
    parts[place] = spoil.format(parts[place][: len(parts[place]) // 4 * 4])
    await refused(verify, ".".join(parts), MALFORMED)


async def test_bits_that_belong_to_no_byte_are_refused(verify):
    token = of()  # its signature has 64 bytes: of the last letter 2 bits count
    assert token[-1] in "AQgw"
    await refused(verify, token[:-1] + chr(ord(token[-1]) + 1), MALFORMED)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"1",
        b'"text"',
        b"[]",
        b'[{"alg":"EdDSA"}]',
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
        b"[" * 64,
        b'{"a":' * 64,
    ],
)
@pytest.mark.parametrize("part", ["header", "claims"])
async def test_header_and_payload_are_json_objects_with_unique_names(verify, part, content):
    await refused(verify, of(**{part: content}), MALFORMED)


def holding(count, **others):
    """An object with this number of commas and opening brackets."""
    return {**others, "x": [0] * (count - len(others) - 1)}


async def test_header_and_claims_hold_a_bounded_number_of_values(verify):
    most = of(holding(MOST_IN_HEADER, **HEADER), holding(MOST_IN_CLAIMS, **CLAIMS))
    assert (await verify(most)).subject == "ann"
    for header, claims in (
        (holding(MOST_IN_HEADER + 1, **HEADER), CLAIMS),
        (HEADER, holding(MOST_IN_CLAIMS + 1, **CLAIMS)),
        (b"[" * 5000, CLAIMS),
        (HEADER, b'{"a":' * 1001),
    ):
        await refused(verify, of(header, claims), TOO_MUCH)


async def test_a_token_in_a_token_is_refused(verify):
    await refused(verify, of(HEADER | {"cty": "JWT"}, of().encode()), MALFORMED)


@pytest.mark.parametrize("algorithm", [None, ["EdDSA"], {}, 256])
async def test_an_algorithm_is_a_string(verify, algorithm):
    await refused(verify, of(HEADER | {"alg": algorithm}), ALGORITHM)
    await refused(verify, of({"kid": "k1"}), ALGORITHM)


@pytest.mark.parametrize("key_id", [None, 1, True, ["k1"], {"k1": 1}, "k" * 257])
async def test_a_key_id_is_a_string(verify, key_id):
    await refused(verify, of(HEADER | {"kid": key_id}), KEY_ID)


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
async def test_extensions_are_refused(verify, asked):
    await refused(verify, of(HEADER | asked), EXTENSION)


@given(st.text(max_size=100) | st.text("abcdeyJ.-_=", max_size=60))
def test_any_text_is_verified_or_refused(text):
    with suppress(Unauthenticated):
        Verifier(Published()).verify(text).send(None)
