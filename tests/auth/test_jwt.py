"""Tokens of real keys are verified; hostile ones, in a table, are refused each for its own reason."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.auth.jwks import JwksFetch
from gateway.auth.jwt import LONGEST_TOKEN
from gateway.errors import Unauthenticated
from tests.harness.jwt_tokens import (
    CLAIMS,
    EVERY_ALGORITHM,
    ISSUER,
    NOW,
    Published,
    Verifier,
    b64,
    ec_key,
    ed448_key,
    ed_key,
    http_answer,
    jwk,
    key_for,
    key_set,
    rsa_key,
    settings,
    signature,
    signed_text,
    token,
    web_server,
)

ALGORITHM = r"^The token's algorithm \(alg\) is not allowed for its issuer\.$"
SIGNATURE = r"^The token's signature is wrong\.$"
UNKNOWN = r"^The token is signed with a key \(kid\) that its issuer does not publish\.$"
OTHER_ALGORITHM = r"^The token names a key \(kid\) that is not for its algorithm \(alg\)\.$"
SEVERAL = r"^The token must name its key \(kid\): its issuer has several\.$"
NOT_CONFIGURED = r"^The token's issuer \(iss\) is not configured here\.$"
AUDIENCE = r"^The token is not for this audience \(aud\)\.$"
EXPIRED = r"^The token has expired\.$"
EARLY = r"^The token is not valid yet\.$"
NO_EXPIRY = r"^The token has no expiry \(exp\)\.$"
EXPIRY = r"^The token's exp must be a number of seconds since 1970\.$"
CALLER = r"^The token does not name its caller: sub must be text without control characters\.$"
CALLER_LONG = r"^The token's caller \(sub\) is too long: the limit is 256 characters with its issuer\.$"
MALFORMED = r"^The token is malformed: it must have three parts in base64url without padding, of which"
KEY_ID = r"^The token is malformed: its key id \(kid\) must be a string of at most 256 characters\.$"
EXTENSION = r"^The token requires an extension \(crit, b64\) that is not supported\.$"
TOO_LONG = r"^The token is too long: the limit is 16384 characters\.$"

HEADER = {"alg": "RS256", "kid": "rsa"}
PUBLISHED = (
    jwk(rsa_key(), kid="rsa"),
    jwk(rsa_key("pkcs"), kid="pkcs", alg="RS256", use="sig"),
    jwk(ec_key(), kid="p256"),
    jwk(ec_key(curve="P-384"), kid="p384"),
    jwk(ec_key(curve="P-521"), kid="p521"),
    jwk(ed_key(), kid="ed"),
    jwk(rsa_key("secret"), kid="encryption", use="enc"),
    jwk(rsa_key("weak", 1024), kid="weak"),
    {"kty": "oct", "k": b64(b"s" * 32), "kid": "oct"},
    {"kty": "oct", "k": b64(b"s" * 32), "kid": "oct-hs", "alg": "HS256"},
)
KID_OF = {"RS": "rsa", "PS": "rsa", "ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed"}


def kid_of(algorithm):
    return KID_OF.get(algorithm) or KID_OF[algorithm[:2]]


def good(**changed):
    return token(header={"kid": "rsa"}, **changed)


def headed(algorithm="RS256", key=None, **header):
    """A token with other header parameters; None leaves one out."""
    return token(algorithm, key=key, header={"kid": kid_of(algorithm), **header})


def of_bytes(header=None, claims=None):
    """A token of exactly these bytes, signed with the right key."""
    header, claims = (json.dumps(HEADER) if header is None else header), claims or json.dumps(CLAIMS)
    parts = [part if isinstance(part, bytes) else part.encode() for part in (header, claims)]
    return signed_text(*parts, lambda signed: signature(rsa_key(), "RS256", signed))


def with_hmac(key, *, kid="rsa", algorithm="HS256"):
    """The classic confusion: a public key as the secret of an HMAC."""
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[algorithm]
    header = {"alg": algorithm, "kid": kid}
    return signed_text(header, CLAIMS, lambda signed: hmac.new(key, signed, digest).digest())


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def part(number, change, text=None):
    """A good token with one part changed."""
    parts = (text or good()).split(".")
    parts[number] = change(parts[number])
    return ".".join(parts)


def evil_header(url):
    """Headers with a key, or the address of one."""
    evil = jwk(rsa_key("evil"), kid="rsa")
    return [{"jwk": evil}, {"jku": f"{url}/jwks.json"}, {"x5u": f"{url}/cert.pem"}, {"x5c": ["MIIB"]}]


UNAUTHENTICATED = signed_text({"alg": "none"}, CLAIMS, lambda _: b"")

# name: a token, and the sentence that refuses it
HOSTILE = {
    "no algorithm": (UNAUTHENTICATED, ALGORITHM),
    **{
        f"algorithm {alg}": (signed_text({"alg": alg, "kid": "rsa"}, CLAIMS, lambda _: b""), ALGORITHM)
        for alg in (
            "none",
            "None",
            "nOnE",
            "NONE",
            "",
            " none",
            "none\n",
            "rs256",
            "RS256 ",
            "RSA",
            "EC",
            "dir",
        )
    },
    "none with a signature": (headed(alg="none"), ALGORITHM),
    "none and a tail of a right token": (UNAUTHENTICATED + good().rpartition(".")[2], ALGORITHM),
    "no alg at all": (headed(alg=None), ALGORITHM),
    "alg as a list": (headed(alg=["RS256"]), ALGORITHM),
    "alg as null": (of_bytes('{"alg":null}'), ALGORITHM),
    **{
        f"{alg} with {name} for a secret": (with_hmac(key, algorithm=alg, kid=kid), ALGORITHM)
        for alg, (name, key, kid) in itertools.product(
            ("HS256", "HS384", "HS512"),
            (
                ("the public key", public_pem(rsa_key()), "rsa"),
                ("the public key on one line", public_pem(rsa_key()).strip(), "rsa"),
                ("the key as published", json.dumps(PUBLISHED[0]).encode(), "rsa"),
                ("nothing", b"", "rsa"),
                ("a secret that was published", b"s" * 32, "oct"),
                ("a secret that was published for it", b"s" * 32, "oct-hs"),
            ),
        )
    },
    "a secret key for RS256": (headed(kid="oct"), UNKNOWN),
    "a key for encryption": (headed(kid="encryption", key=rsa_key("secret")), UNKNOWN),
    "a weak key": (headed(kid="weak", key=rsa_key("weak", 1024)), UNKNOWN),
    **{
        f"key id {kid!r}": (headed(kid=kid), UNKNOWN)
        for kid in (
            *(
                "../../../../dev/null",
                "/etc/passwd",
                "rsa\0",
                "rsa\n",
                " rsa",
                "RSA",
                "",
                "|ls",
                "\ud800",
                "%72sa",
            ),
            *(
                "' UNION SELECT 'key' --",
                "http://127.0.0.1:1/jwks.json",
                "${jndi:ldap://x}",
                "__class__",
                "k" * 256,
            ),
        )
    },
    **{
        f"key id {kid!r}": (headed(kid=kid), KEY_ID)
        for kid in (["rsa"], 1, 1.5, True, {"kid": "rsa"}, "k" * 257)
    },
    "key id null": (of_bytes('{"alg":"RS256","kid":null}'), KEY_ID),
    "no key id among several keys": (headed(kid=None), SEVERAL),
    **{
        f"another's key in {name}": (headed(key=rsa_key("evil"), **header), SIGNATURE)
        for header in evil_header("http://127.0.0.1:1")
        for name in header
    },
    "another's key": (headed(key=rsa_key("evil")), SIGNATURE),
    "another of the issuer's keys": (headed(key=rsa_key("pkcs")), SIGNATURE),
    "another curve point": (headed("ES256", key=ec_key("evil")), SIGNATURE),
    "another edwards key": (headed("EdDSA", key=ed_key("evil")), SIGNATURE),
    "ed448 as EdDSA": (headed("EdDSA", key=ed448_key()), SIGNATURE),
    "an RS256 signature as PS256": (
        signed_text({"alg": "PS256", "kid": "rsa"}, CLAIMS, lambda s: signature(rsa_key(), "RS256", s)),
        SIGNATURE,
    ),
    "a PS256 signature as RS256": (
        signed_text(HEADER, CLAIMS, lambda s: signature(rsa_key(), "PS256", s)),
        SIGNATURE,
    ),
    "RS512 as RS256": (signed_text(HEADER, CLAIMS, lambda s: signature(rsa_key(), "RS512", s)), SIGNATURE),
    "a key for RS256 used for PS256": (headed("PS256", kid="pkcs", key=rsa_key("pkcs")), OTHER_ALGORITHM),
    "a key for RS256 used for RS384": (headed("RS384", kid="pkcs", key=rsa_key("pkcs")), OTHER_ALGORITHM),
    "P-256 with the P-384 key's id": (headed("ES256", kid="p384"), OTHER_ALGORITHM),
    "P-384 signature as ES256": (
        signed_text(
            {"alg": "ES256", "kid": "p256"}, CLAIMS, lambda s: signature(ec_key(curve="P-384"), "ES384", s)
        ),
        SIGNATURE,
    ),
    "P-384 key for ES256": (
        signed_text(
            {"alg": "ES256", "kid": "p384"}, CLAIMS, lambda s: signature(ec_key(curve="P-384"), "ES256", s)
        ),
        OTHER_ALGORITHM,
    ),
    "RSA with an EC key's id": (headed("RS256", kid="p256"), OTHER_ALGORITHM),
    "EC with an RSA key's id": (headed("ES256", kid="rsa"), OTHER_ALGORITHM),
    "an ECDSA signature in DER": (
        signed_text(
            {"alg": "ES256", "kid": "p256"}, CLAIMS, lambda s: signature(ec_key(), "ES256", s, as_der=True)
        ),
        SIGNATURE,
    ),
    **{
        f"an ECDSA signature of {name}": (
            signed_text({"alg": "ES256", "kid": "p256"}, CLAIMS, lambda _, value=value: value),
            SIGNATURE,
        )
        for name, value in (
            ("zeros", bytes(64)),
            ("zeros in DER", bytes.fromhex("3006020100020100")),
            ("nothing", b""),
            (
                "the order",
                bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551") * 2,
            ),
            ("a byte", b"\0"),
            ("128 bytes", bytes(128)),
        )
    },
    "a signature of nothing": (good().rpartition(".")[0] + ".", SIGNATURE),
    "a signature that is cut": (
        signed_text(HEADER, CLAIMS, lambda s: signature(rsa_key(), "RS256", s)[:-1]),
        SIGNATURE,
    ),
    "another token's signature": (
        good().rpartition(".")[0] + "." + good(sub="bob").rpartition(".")[2],
        SIGNATURE,
    ),
    "claims changed": (part(1, lambda _: b64(json.dumps(CLAIMS | {"sub": "root"}).encode())), SIGNATURE),
    "claims in another spelling of JSON": (
        part(1, lambda _: b64(json.dumps(CLAIMS, indent=1).encode())),
        SIGNATURE,
    ),
    "header changed": (part(0, lambda _: b64(json.dumps(HEADER | {"typ": "x"}).encode())), SIGNATURE),
    "critical extension": (headed(crit=["exp"], exp=1), EXTENSION),
    "critical b64": (headed(crit=["b64"], b64=False), EXTENSION),
    "b64 alone": (headed(b64=False), EXTENSION),
    "another issuer": (good(iss="https://evil.example"), NOT_CONFIGURED),
    **{
        f"issuer {iss!r}": (good(iss=iss), NOT_CONFIGURED)
        for iss in (
            f"{ISSUER}/",
            ISSUER.upper(),
            f" {ISSUER}",
            f"{ISSUER}\n",
            "",
            [ISSUER],
            {ISSUER: 1},
            1,
            True,
        )
    },
    "no issuer": (good(iss=None), NOT_CONFIGURED),
    "issuer only in the header": (
        of_bytes(json.dumps(HEADER | {"iss": ISSUER}), '{"sub":"ann"}'),
        NOT_CONFIGURED,
    ),
    "another audience": (good(aud="other"), AUDIENCE),
    "no audience": (good(aud=None), AUDIENCE),
    "other audiences": (good(aud=["other", "Chat"]), AUDIENCE),
    "an audience that is a number": (good(aud=1), AUDIENCE),
    "audiences in a list in a list": (good(aud=[["chat"]]), AUDIENCE),
    "expired": (good(exp=NOW - 3600), EXPIRED),
    "expired by exactly the leeway": (good(exp=NOW - 30), EXPIRED),
    "valid only later": (good(nbf=NOW + 31), EARLY),
    "issued in the future": (good(iat=NOW + 31), EARLY),
    "no expiry": (good(exp=None), NO_EXPIRY),
    **{
        f"expiry {exp!r}": (good(exp=exp), EXPIRY)
        for exp in (str(NOW + 600), True, 1e300, 10**30, -1, [NOW], (NOW + 600) * 1000)
    },
    "expiry NaN": (of_bytes(claims=json.dumps(CLAIMS | {"exp": float("nan")})), MALFORMED),
    "expiry 1e999": (of_bytes(claims=json.dumps(CLAIMS).replace(str(NOW + 600), "1e999")), EXPIRY),
    "expiry null": (of_bytes(claims=json.dumps(CLAIMS | {"exp": None})), EXPIRY),
    "caller twice": (of_bytes(claims=json.dumps(CLAIMS)[:-1] + ',"sub":"root"}'), MALFORMED),
    "expiry twice": (
        of_bytes(claims=json.dumps(CLAIMS)[:-1] + ',"exp":9999999999}'),
        MALFORMED,
    ),
    "algorithm twice": (of_bytes('{"alg":"none","kid":"rsa","alg":"RS256"}'), MALFORMED),
    "a token in a token": (of_bytes(json.dumps(HEADER | {"cty": "JWT"}), good()), MALFORMED),
    "two parts": (good().rpartition(".")[0], MALFORMED),
    "four parts": (good() + ".QQ", MALFORMED),
    "encrypted": (
        ".".join([b64(b'{"alg":"RSA-OAEP","enc":"A256GCM"}'), "QQ", "QQ", "QQ", "QQ"]),
        MALFORMED,
    ),
    "as JSON": (json.dumps({"payload": "QQ", "signatures": []}), MALFORMED),
    "nothing": ("", MALFORMED),
    "points": ("..", MALFORMED),
    **{
        f"{spoiled!r} in part {number}": (part(number, change), MALFORMED)
        for (number, name), (spoiled, change) in itertools.product(
            enumerate(("header", "payload", "signature")),
            {
                "padding": lambda text: text + "=" * (-len(text) % 4 or 1),
                "blank": lambda text: text + " ",
                "newline": lambda text: text[:4] + "\n" + text[4:],
                "plus": lambda text: "+" + text[1:],
                "letters beyond ASCII": lambda text: "é" + text[1:],
                "NUL": lambda text: text + "\0",
            }.items(),
        )
    },
    "header that is not UTF-8": (of_bytes(b'{"alg":"RS256","kid":"\xff"}'), MALFORMED),
    "payload that is not UTF-8": (of_bytes(claims=b'{"sub":"\xff"}'), MALFORMED),
    "payload in UTF-16": (of_bytes(claims=json.dumps(CLAIMS).encode("utf-16")), MALFORMED),
    "header that is a list": (of_bytes('["RS256"]'), MALFORMED),
    "payload that is a text": (of_bytes(claims='"ann"'), MALFORMED),
    "payload that is deep": (of_bytes(claims="[" * 1000), MALFORMED),
    **{
        f"caller {sub!r}": (good(sub=sub), CALLER)
        for sub in ("", 7, True, ["ann"], "a\nb", "a\0", "\x9f", "\udc00")
    },
    "no caller": (good(sub=None), CALLER),
    "a caller that is too long": (good(sub="a" * 230), CALLER_LONG),
    "too long": (good(more="m" * LONGEST_TOKEN), TOO_LONG),
    "far too long": ("." * 1_000_000, TOO_LONG),
}


@pytest.fixture
async def verifier():
    verifier = Verifier(Published(*PUBLISHED))
    await verifier.tick()
    return verifier


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_token_is_refused_for_its_own_reason(verifier, name):
    text, sentence = HOSTILE[name]
    with pytest.raises(Unauthenticated, match=sentence) as refusal:
        await verifier.verify(text)
    assert refusal.value.status == 401
    assert verifier.bugs == []


def test_the_table_has_more_than_120_tokens():
    assert len(HOSTILE) > 120


@pytest.mark.parametrize("algorithm", EVERY_ALGORITHM)
async def test_a_right_token_of_every_algorithm_is_verified(verifier, algorithm):
    identity = await verifier.verify(headed(algorithm))
    assert (identity.name, identity.routes) == (f"jwt:{ISSUER}:ann", None)
    assert (identity.not_before, identity.expires_at) == (NOW - 40, NOW + 630)
    verifier.tokens.check(identity, NOW)


async def test_unknown_header_parameters_have_no_effect(verifier):
    for header in (
        {"typ": "at+jwt"},
        {"typ": None},
        *evil_header("http://127.0.0.1:1"),
        {"x5t": "x", "more": [1]},
    ):
        assert (await verifier.verify(headed(**header))).subject == "ann"


async def test_an_algorithm_that_is_not_allowed_for_this_issuer_is_refused_though_it_has_a_key():
    verifier = Verifier(Published(*PUBLISHED), settings(algorithms=["RS256"]))
    await verifier.tick()
    assert await verifier.verify(headed("RS256"))
    for algorithm in set(EVERY_ALGORITHM) - {"RS256"}:
        with pytest.raises(Unauthenticated, match=ALGORITHM):
            await verifier.verify(headed(algorithm))


@pytest.mark.parametrize("algorithm", ["HS256", "none"])
async def test_algorithms_that_no_configuration_allows_are_refused(algorithm):
    careless = settings().model_copy(update={"algorithms": ("HS256", "none")})
    verifier = Verifier(Published(*PUBLISHED), careless)
    await verifier.tick()
    text = with_hmac(b"s" * 32, kid="oct-hs") if algorithm == "HS256" else UNAUTHENTICATED
    with pytest.raises(Unauthenticated, match=ALGORITHM):
        await verifier.verify(text)


async def test_a_token_without_a_key_id_uses_the_only_key():
    verifier = Verifier(Published(jwk(rsa_key()), jwk(ec_key(), kid="p256")))
    await verifier.tick()
    assert await verifier.verify(headed(kid=None))
    assert await verifier.verify(headed("ES256", kid=None))
    with pytest.raises(Unauthenticated, match=SIGNATURE):
        await verifier.verify(headed(kid=None, key=rsa_key("evil")))


async def test_every_letter_of_a_token_counts(verifier):
    text = headed("ES256")
    for place in range(0, len(text), 7):
        for letter in {"A", "_", "."} - {text[place]}:
            with pytest.raises(Unauthenticated):
                await verifier.verify(text[:place] + letter + text[place + 1 :])


async def test_each_issuer_has_its_own_settings_and_keys():
    """Both use the same key id, so that only the issuer selects the key."""

    async def fetch(url):
        return key_set(jwk(rsa_key("second" if "second" in url else "rsa"), kid="rsa"))

    second = settings(
        issuer="https://second",
        jwks_url="https://second/jwks",
        audience="two",
        caller_claim="email",
        routes_claim="routes",
        leeway="0s",
    )
    verifier = Verifier(fetch, settings(), second)
    claims = {"iss": "https://second", "aud": "two", "email": "ann@second", "routes": ["a"]}
    identity = await verifier.verify(good(key=rsa_key("second"), **claims))
    assert (identity.name, identity.routes) == ("jwt:https://second:ann@second", frozenset({"a"}))
    assert (await verifier.verify(good())).name == f"jwt:{ISSUER}:ann"
    for text, sentence in (
        (good(**claims), SIGNATURE),
        (good(key=rsa_key("second")), SIGNATURE),
        (good(key=rsa_key("second"), **claims | {"aud": "chat"}), AUDIENCE),
        (good(key=rsa_key("second"), **claims, exp=NOW), EXPIRED),
    ):
        with pytest.raises(Unauthenticated, match=sentence):
            await verifier.verify(text)


async def test_a_verified_identity_is_checked_again(verifier):
    identity = await verifier.verify(good())
    verifier.tokens.check(identity, NOW + 629)
    with pytest.raises(Unauthenticated, match=EXPIRED):
        verifier.tokens.check(identity, NOW + 630)
    assert "evil" not in repr(identity)


async def test_without_issuers_every_token_is_refused():
    verifier = Verifier(Published())
    without = type(verifier.tokens)([], verifier.clock)
    without.tick(0)
    with pytest.raises(Unauthenticated, match=NOT_CONFIGURED):
        await without.verify(good(), NOW)


async def test_keys_come_from_the_configured_server_and_never_from_the_token():
    async def speak(_, writer):
        writer.write(http_answer(key_set(jwk(rsa_key(), kid="rsa"))))

    async def speak_evil(_, writer):
        writer.write(http_answer(key_set(jwk(rsa_key("evil"), kid="rsa"), jwk(rsa_key("evil"), kid="evil"))))

    async with (
        opened() as fetch,
        web_server(speak) as (url, heads),
        web_server(speak_evil) as (evil, evil_heads),
    ):
        verifier = Verifier(fetch, settings(jwks_url=f"{url}/jwks.json"))
        assert (await verifier.verify(good())).subject == "ann"
        for header in evil_header(evil):
            for kid, sentence in (("rsa", SIGNATURE), ("evil", UNKNOWN), (f"{evil}/jwks.json", UNKNOWN)):
                verifier.clock.now += 30
                with pytest.raises(Unauthenticated, match=sentence):
                    await verifier.verify(headed(key=rsa_key("evil"), **header | {"kid": kid}))
        assert evil_heads == []
        assert len(heads) == 1 + 4 * 2
        assert {head.split(b" ")[1] for head in heads} == {b"/jwks.json"}


@asynccontextmanager
async def opened():
    fetch = JwksFetch()
    await fetch.start()
    try:
        yield fetch
    finally:
        await fetch.close()


def test_keys_fit_their_algorithms():
    """Every algorithm has a key."""
    assert {kid_of(algorithm) for algorithm in EVERY_ALGORITHM} <= {one["kid"] for one in PUBLISHED}
    assert all(key_for(algorithm) for algorithm in EVERY_ALGORITHM)
