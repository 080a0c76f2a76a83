"""JSON Web Tokens up to 16 KiB that are dear to read before their signature is looked at; none of them is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.harness import jwt_tokens
from tests.harness.jwt_tokens import signed_text
from tests.hostile.corpus.requests import KIB, members, repeated

SIZE = 11 * KIB  # of a part; it has a third more letters
LAST_SECOND = 253_402_300_799
CLAIMS = jwt_tokens.CLAIMS | {"iat": 1, "exp": LAST_SECOND}  # right at any time
HEADER = {"alg": "RS256", "kid": "k1"}
BEGIN = b'{"alg":"RS256","kid":"k1",'
TOO_MUCH, MALFORMED = "its header may hold 64 commas", "it must have three parts"
WRONG = "signature is wrong"


@dataclass(frozen=True)
class HostileToken:
    """A token, and what the answer says of it."""

    make: Callable[[], str]
    says: str


def _unsigned(header: object, claims: object, says: str, signature: int = 256) -> HostileToken:
    return HostileToken(lambda: signed_text(header, claims, lambda _: b"x" * signature), says)


def _header(before: bytes, unit: bytes, after: bytes, says: str) -> HostileToken:
    return _unsigned(repeated(BEGIN + before, unit, SIZE - 50, after + b"}")(), CLAIMS, says)


TABLE = {
    "header of many members": _unsigned(members(BEGIN, SIZE - 50, b"}")(), CLAIMS, TOO_MUCH),
    "header of the same member": _header(b"", b'"a":0,', b'"b":0', TOO_MUCH),
    "claims of many members": _unsigned(HEADER, members(b"{", SIZE, b"}")(), "commas and opening brackets"),
    "extensions": _header(b'"crit":[', b'"a",', b'"b"]', TOO_MUCH),
    "arrays": _header(b'"x":[', b"[],", b"0]", TOO_MUCH),
    "nested arrays": _header(b'"x":[', b"[" * 900 + b"]" * 900 + b",", b"0]", TOO_MUCH),
    "deep": _header(b'"x":', b"[", b"", TOO_MUCH),
    "deep objects": _header(b'"x":', b'{"a":', b"", TOO_MUCH),
    "floats": _header(b'"x":[', b"0.1e-300,", b"1]", TOO_MUCH),
    "digits": _header(b'"x":', b"1", b"", MALFORMED),
    "long numbers": _header(b'"x":[', b"1" * 4300 + b",", b"1]", WRONG),
    "escapes": _header(b'"x":"', b"\\u0041", b'"', WRONG),
    "a key id": _unsigned(b'{"alg":"RS256","kid":"' + b"k" * SIZE + b'"}', CLAIMS, "key id (kid)"),
    "an algorithm": _unsigned(b'{"kid":"k1","alg":"' + b"R" * SIZE + b'"}', CLAIMS, "algorithm (alg)"),
    "algorithms": _unsigned({"kid": "k1", "alg": ["RS256"] * 60}, CLAIMS, "algorithm (alg)"),
    "no algorithm": _unsigned({"kid": "k1", "alg": "none"}, CLAIMS, "algorithm (alg)", 0),
    "a symmetric algorithm": _unsigned({"kid": "k1", "alg": "HS256"}, CLAIMS, "algorithm (alg)", 32),
    "an unknown key": _unsigned({"alg": "RS256", "kid": "k9"}, CLAIMS, "its issuer does not publish"),
    "audiences": _unsigned(HEADER, json.dumps({**CLAIMS, "aud": ["a"] * 2000}).encode(), TOO_MUCH),
    "a long signature": _unsigned(HEADER, CLAIMS, WRONG, SIZE),
    "dots": HostileToken(lambda: "a." * 8000 + "a", "no key of this gateway"),
    "more than 16 KiB": HostileToken(lambda: "a" * 9000 + ".a.a" + "a" * 9000, "too long"),
}
