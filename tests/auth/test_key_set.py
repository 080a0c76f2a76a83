"""Which published keys may verify what."""

from __future__ import annotations

import json
import re

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm, get_default_algorithms

from gateway.auth.key_set import (
    LARGEST_EXPONENT,
    LARGEST_KEY,
    LONGEST_KEY_ID,
    LONGEST_NUMBER,
    MOST_KEYS,
    JwksError,
    KeySet,
)
from gateway.errors import Unauthenticated
from tests.harness.jwt_tokens import (
    EVERY_ALGORITHM,
    b64,
    ec_key,
    ed448_key,
    ed_key,
    jwk,
    key_for,
    key_set,
    rsa_key,
    signature,
)

RSA_ONES = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
SIGNED = b"header.payload"
OTHER_ALGORITHM = r"^The token names a key \(kid\) that is not for its algorithm \(alg\)\.$"


def read(*keys, algorithms=EVERY_ALGORITHM):
    return KeySet.read(key_set(*keys), algorithms)


def fits(published):
    """The algorithms that a published key may verify."""
    keys, key_id = read(published), published.get("kid")
    found = {algorithm for algorithm in EVERY_ALGORITHM if keys.key(None, algorithm)}
    if isinstance(key_id, str):
        for algorithm in found:
            assert keys.key(key_id, algorithm) is keys.key(None, algorithm)
        for algorithm in {*EVERY_ALGORITHM} - found if found else ():
            with pytest.raises(Unauthenticated, match=OTHER_ALGORITHM):
                keys.key(key_id, algorithm)
    assert len(keys) == bool(found)
    assert keys.left_out == (not found)
    return found


def verifies(key, algorithm, signed, signature):
    return get_default_algorithms()[algorithm].verify(signed, key.key, signature)


@pytest.mark.parametrize("algorithm", EVERY_ALGORITHM)
def test_every_algorithm_verifies_its_own_signature_and_no_other(algorithm):
    key = key_for(algorithm)
    found = read(jwk(key, kid="k1")).key("k1", algorithm)
    right = signature(key, algorithm, SIGNED)
    wrong = [
        b"",
        right[:-1],
        right + b"\0",
        right[::-1],
        bytes(len(right)),
        b"\xff" * len(right),
        b"s" * 5000,
    ]
    changed = [
        bytes([*right[:place], right[place] ^ 1, *right[place + 1 :]]) for place in (0, len(right) - 1)
    ]
    assert verifies(found, algorithm, SIGNED, right)
    assert not any(verifies(found, algorithm, SIGNED, one) for one in [*wrong, *changed])
    assert not verifies(found, algorithm, SIGNED + b"x", right)


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (rsa_key(), RSA_ONES),
        (ec_key(), {"ES256"}),
        (ec_key(curve="P-384"), {"ES384"}),
        (ec_key(curve="P-521"), {"ES512"}),
        (ed_key(), {"EdDSA"}),
        (ec_key(curve="secp256k1"), set()),
        (ed448_key(), set()),
    ],
)
def test_a_key_fits_the_algorithms_of_its_kind_and_curve(key, algorithms):
    assert fits(jwk(key)) == fits(jwk(key, kid="k1")) == algorithms


@pytest.mark.parametrize(
    ("members", "algorithms"),
    [
        ({"alg": "RS256"}, {"RS256"}),
        ({"alg": "PS512"}, {"PS512"}),
        *(
            ({"alg": other}, set())
            for other in ("ES256", "HS256", "none", "RSA-OAEP", "rs256", None, 1, ["RS256"], {})
        ),
        ({"use": "sig"}, RSA_ONES),
        *(({"use": other}, set()) for other in ("enc", "", None, "SIG", ["sig"], {})),
        ({"key_ops": ["verify"]}, RSA_ONES),
        ({"key_ops": ["sign", "verify"]}, RSA_ONES),
        *(
            ({"key_ops": other}, set())
            for other in (["sign"], ["encrypt"], [], None, "verify", {"verify": 1})
        ),
        *(({"kid": other}, set()) for other in (1, None, ["k1"], {})),
        *(({name: "AQAB"}, set()) for name in ("d", "p", "q", "dp", "dq", "qi", "oth", "k")),
        *(({"kty": other}, set()) for other in ("EC", "OKP", "oct", "rsa", "", None, 1, [])),
        *(({"n": other}, set()) for other in ("", None, 1, [], "!", "AQAB", "é", "A" * 3000)),
        *(({"e": other}, set()) for other in ("", None, 1, [], "AA", "AQ", "Ag")),
        ({"x5c": ["MIIB"], "x5u": "http://127.0.0.1:1/", "x5t": "x", "more": {}}, RSA_ONES),
    ],
)
def test_the_members_of_a_key_restrict_its_use(members, algorithms):
    assert fits(jwk(rsa_key(), **members)) == algorithms


@pytest.mark.parametrize("missing", ["kty", "n", "e"])
def test_a_key_without_one_of_its_numbers_is_left_out(missing):
    assert not fits({name: value for name, value in jwk(rsa_key()).items() if name != missing})


@pytest.mark.parametrize(
    "members",
    [
        {"crv": "P-384"},
        {"crv": None},
        {"crv": ["P-256"]},
        {"crv": ""},
        {"x": b64(b"x" * 32)},  # no point of the curve
        {"x": b64(b"x" * 31)},
        {"x": b64(b"x" * 33)},
        {"x": b64(bytes(32)), "y": b64(bytes(32))},
        {"y": 1},
        {"y": ""},
    ],
)
def test_a_point_is_on_its_curve(members):
    assert not fits(jwk(ec_key(), **members))


@pytest.mark.parametrize("x", ["", None, 1, b64(b"x" * 31), b64(b"x" * 33)])
def test_an_edwards_key_has_32_bytes(x):
    assert not fits(jwk(ed_key(), x=x))


@pytest.mark.parametrize(
    ("bits", "algorithms"), [(1024, set()), (2047, set()), (2048, RSA_ONES), (8192, RSA_ONES), (8193, set())]
)
def test_rsa_keys_have_2048_to_8192_bits(bits, algorithms):
    modulus = (1 << bits - 1 | 1).to_bytes((bits + 7) // 8, "big")
    assert fits({"kty": "RSA", "n": b64(modulus), "e": "AQAB"}) == algorithms


def test_a_key_that_openssl_does_not_support_is_left_out(monkeypatch):
    """A build of OpenSSL for FIPS may lack Ed25519."""

    def refuse(_):
        raise UnsupportedAlgorithm("not in this build")

    monkeypatch.setattr(OKPAlgorithm, "from_jwk", staticmethod(refuse))
    keys = read(jwk(ed_key(), kid="k1"), jwk(rsa_key(), kid="k2"))
    assert (len(keys), keys.left_out) == (1, 1)


def test_a_secret_key_is_never_used():
    secret = {"kty": "oct", "k": b64(b"s" * 32), "kid": "k1"}
    keys = read(secret, secret | {"alg": "HS256"}, algorithms=["HS256", "none", "RS256"])
    assert (len(keys), keys.left_out) == (0, 2)
    assert keys.key("k1", "HS256") is None


def test_a_key_of_no_kind_is_for_no_algorithm():
    keys = read({"kid": "k1"}, {"kid": "k2", "kty": None, "crv": None}, algorithms=["HS256", "none"])
    assert (len(keys), keys.left_out) == (0, 2)


def test_only_algorithms_that_are_allowed_are_bound():
    keys = read(jwk(rsa_key(), kid="k1"), jwk(ec_key(), kid="k2"), algorithms=["PS256"])
    assert (len(keys), keys.left_out) == (1, 1)
    assert keys.key("k1", "PS256")
    with pytest.raises(Unauthenticated, match=OTHER_ALGORITHM):
        keys.key("k1", "RS256")


def test_a_bad_key_harms_no_other():
    bad = [None, 1, "key", [], {}, {"kty": "RSA"}, {"kty": []}, jwk(rsa_key(bits=1024)), jwk(ed448_key())]
    keys = read(*bad, jwk(rsa_key(), kid="k1"), *bad, jwk(ec_key(), kid="k2"), *bad)
    assert (len(keys), keys.left_out) == (2, 3 * len(bad))
    assert keys.key("k1", "RS256")
    assert keys.key("k2", "ES256")


def test_an_id_is_looked_up_as_it_is():
    keys = read(jwk(rsa_key(), kid="k1"), jwk(rsa_key("other"), kid="../k2"))
    for key_id in ("K1", "k1 ", "", "./k1", "k2", "../../dev/null", "k1' OR '1'='1"):
        assert keys.key(key_id, "RS256") is None
    assert keys.key("../k2", "RS256")


def test_one_id_for_two_kinds_of_keys_gives_the_fitting_one():
    keys = read(jwk(rsa_key(), kid="k1"), jwk(ec_key(), kid="k1"))
    assert keys.key("k1", "RS256").thumbprint != keys.key("k1", "ES256").thumbprint
    assert (len(keys), keys.left_out) == (2, 0)


def test_the_first_of_two_keys_with_one_id_stays():
    keys = read(jwk(rsa_key(), kid="k1"), jwk(rsa_key("other"), kid="k1"))
    first = read(jwk(rsa_key(), kid="k1"))
    assert keys.key("k1", "RS256").thumbprint == first.key("k1", "RS256").thumbprint
    assert (len(keys), keys.left_out) == (1, 1)


def test_without_an_id_the_only_key_is_meant():
    one = read(jwk(rsa_key(), kid="k1"), jwk(ec_key()))
    assert one.key(None, "RS256").thumbprint == one.key("k1", "RS256").thumbprint
    assert one.key(None, "ES256")
    assert one.key(None, "EdDSA") is None
    two = read(jwk(rsa_key(), kid="k1"), jwk(rsa_key("other")))
    with pytest.raises(
        Unauthenticated, match=r"^The token must name its key \(kid\): its issuer has several\.$"
    ):
        two.key(None, "RS256")
    twice = read(jwk(rsa_key(), kid="k1"), jwk(rsa_key(), kid="k2"))
    assert twice.key(None, "RS256")


def test_a_key_without_an_id_is_not_found_by_one():
    assert read(jwk(rsa_key())).key("k1", "RS256") is None


def test_what_is_still_there_is_known_by_its_thumbprint():
    keys = read(jwk(rsa_key(), kid="k1"))
    thumbprint = keys.key("k1", "RS256").thumbprint
    assert re.fullmatch("[0-9a-f]{64}", thumbprint)
    assert read(jwk(rsa_key(), kid="k9", alg="PS256")).has(thumbprint)
    assert not read(jwk(rsa_key("other"), kid="k1")).has(thumbprint)
    assert not read().has("")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"\xff",
        b"<html>",
        b'{"keys":[}',
        b'{"keys":' + b"[" * 100_000,
        b'{"keys":["\xff"]}',
        b'{"keys":[NaN]}',
        b'{"keys":["\\ud800"]}',
    ],
)
def test_what_is_not_json_is_no_key_set(document):
    with pytest.raises(JwksError, match=r"^the response is not JSON$"):
        KeySet.read(document, EVERY_ALGORITHM)


@pytest.mark.parametrize(
    "document", [[], None, 1, "keys", {}, {"keys": None}, {"keys": {}}, {"keys": "k"}, {"Keys": []}]
)
def test_a_key_set_has_a_list_of_keys(document):
    with pytest.raises(JwksError, match=r"^the response is not a JSON object with a list named keys$"):
        KeySet.read(json.dumps(document).encode(), EVERY_ALGORITHM)


def test_a_key_set_has_at_most_256_keys():
    assert len(read(*[jwk(rsa_key())] * MOST_KEYS)) == 1
    with pytest.raises(JwksError, match=r"^the set has more than 256 keys$"):
        read(*[{}] * (MOST_KEYS + 1))


@pytest.mark.parametrize(
    "members",
    [
        {"n": "_" * (LONGEST_NUMBER + 1)},
        {"e": "A" * (LONGEST_NUMBER + 1)},
        {"y": "_" * (LONGEST_NUMBER + 1)},
        {"kid": "k" * (LONGEST_KEY_ID + 1)},
        {"x5c": ["A" * LARGEST_KEY]},
        {"key_ops": ["verify", 1]},
        {"e": b64((LARGEST_EXPONENT + 2).to_bytes(4, "big"))},
        {"e": b64(((1 << 2047) + 1).to_bytes(256, "big"))},
    ],
)
def test_a_key_that_is_too_large_is_left_out_and_harms_no_other(members):
    keys = read(jwk(rsa_key(), kid="k1") | members, jwk(ec_key(), kid="k2"))
    assert (len(keys), keys.left_out) == (1, 1)
    assert keys.key("k2", "ES256")


def test_the_largest_key():
    """Zeros in front of a number, a chain of certificates, and the largest exponent."""
    largest = {
        "n": "AAAA" * 10 + jwk(rsa_key())["n"],
        "e": b64(LARGEST_EXPONENT.to_bytes(4, "big")),
        "kid": "k" * LONGEST_KEY_ID,
        "x5c": ["A" * 10_000] * 3,
        **{f"other{number}": [] for number in range(100)},
    }
    assert fits(jwk(rsa_key()) | largest) == RSA_ONES


def test_a_key_is_made_once_for_all_its_algorithms(monkeypatch):
    made = []
    from_jwk = RSAAlgorithm.from_jwk
    monkeypatch.setattr(RSAAlgorithm, "from_jwk", staticmethod(lambda one: made.append(one) or from_jwk(one)))
    assert fits(jwk(rsa_key(), kid="k1")) == RSA_ONES
    assert len(made) == 1


def test_an_empty_key_set_is_one():
    assert (len(read()), read().left_out) == (0, 0)
