"""Documents that an issuer may publish in place of its keys, up to 1 MiB: many, long, deep, no keys at all."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.harness.jwt_tokens import b64, ec_key, jwk, rsa_key
from tests.hostile.corpus.requests import KIB, MIB, members, repeated

LARGE = MIB - KIB
RIGHT = jwk(rsa_key(), kid="k1")
NO_JSON = "the response is not JSON"
NO_SET = "the response is not a JSON object with a list named keys"
TOO_MANY = "the set has more than 256 keys"


@dataclass(frozen=True)
class HostileSet:
    """A document and what the log says of it: a reason, or how many keys are usable and how many are not."""

    make: Callable[[], bytes]
    reason: str = ""
    count: int = 0
    left_out: int = 0


def _filled(before: bytes, unit: bytes, after: bytes, reason: str = "", **counts: int) -> HostileSet:
    return HostileSet(repeated(before, unit, LARGE - len(before) - len(after), after), reason, **counts)


def _with(**changed: Any) -> HostileSet:
    """The right key, and one with these members."""
    published = [RIGHT, {**RIGHT, "kid": "k2", **changed}]
    return HostileSet(lambda: json.dumps({"keys": published}).encode(), count=1, left_out=1)


def _many(key: dict[str, Any], count: int) -> Callable[[], bytes]:
    return lambda: json.dumps({"keys": [RIGHT, *({**key, "kid": f"o{n}"} for n in range(count))]}).encode()


def _other_moduli() -> bytes:
    """Keys of 8192 bits, each another one."""
    numbers = [random.Random(n).getrandbits(8192) | 1 | 1 << 8191 for n in range(255)]
    keys = [{**RIGHT, "kid": f"o{n}", "n": b64(one.to_bytes(1024, "big"))} for n, one in enumerate(numbers)]
    return json.dumps({"keys": [RIGHT, *keys]}).encode()


KEYS = {
    "commas": _filled(b'{"keys":[', b"0,", b"0]}", TOO_MANY),
    "arrays": _filled(b'{"keys":[', b"[],", b"0]}", TOO_MANY),
    "objects": _filled(b'{"keys":[', b"{},", b"{}]}", TOO_MANY),
    "small keys": _filled(b'{"keys":[', b'{"kty":"RSA","n":"AQAB","e":"AQAB"},', b"{}]}", TOO_MANY),
    "a right key behind too many": _filled(
        b'{"keys":[', b"{},", json.dumps(RIGHT).encode() + b"]}", TOO_MANY
    ),
    "256 keys": HostileSet(_many(RIGHT, 255), count=1),
    "256 keys of 8192 bits": HostileSet(_other_moduli, count=256),
    "255 points of P-521": HostileSet(_many(jwk(ec_key(curve="P-521")), 255), count=2),
    "255 long numbers": HostileSet(_many({**RIGHT, "n": "_" * 3000}, 255), count=1, left_out=255),
    "keys of many members": HostileSet(_many({**RIGHT, **{f"m{n}": 0 for n in range(300)}}, 200), count=1),
}
NUMBERS = {
    "a modulus of 1 MB": _with(n="_" * (LARGE - KIB)),
    "an exponent of 1 MB": _with(e="_" * (LARGE - KIB)),
    "an exponent of 2048 bits": _with(e=b64(((1 << 2047) + 1).to_bytes(256, "big"))),
    "an exponent of 64 bits": _with(e=b64((2**64 - 1).to_bytes(8, "big"))),
    "a coordinate of 1 MB": _with(kty="EC", crv="P-256", x="_" * (LARGE - KIB), y="AQAB"),
    "an id of 1 MB": _with(kid="k" * (LARGE - KIB)),
    "certificates of 1 MB": _with(x5c=["A" * (LARGE - KIB)]),
    "many operations": _with(key_ops=["verify"] * 50_000),
    "members of all kinds": _with(n=["AQAB"], e={"a": []}),
}
TEXTS = {
    "deep": _filled(b'{"keys":[', b"[", b"", NO_JSON),
    "deep objects": _filled(b'{"keys":[', b'{"a":', b"", NO_JSON),
    "deep and closed": HostileSet(lambda: b'{"keys":' + b"[" * 500 * KIB + b"]" * 500 * KIB + b"}", NO_JSON),
    "many that are nested": _filled(b'{"keys":[', b"[" * 900 + b"]" * 900 + b",", b"0]}", TOO_MANY),
    "members of the document": HostileSet(members(b"{", 900 * KIB, b',"keys":{}}'), NO_SET),
    "the same member": _filled(b"{", b'"keys":[],', b'"keys":1}', NO_SET),
    "members of a key": HostileSet(members(b'{"keys":[{', 900 * KIB, b"}]}"), left_out=1),
    "blanks": _filled(b'{"keys":[', b" ", b"1}", NO_JSON),
    "digits": _filled(b'{"keys":', b"1", b"}", NO_SET),
    "escapes": _filled(b'{"keys":"', b"\\u0041", b'"}', NO_SET),
    "half surrogate pairs": _filled(b'{"keys":["', b"\\ud83d", b'"]}', NO_JSON),
    "not UTF-8 at the end": _filled(b'{"keys":["', "é".encode(), b'\xff"]}', NO_JSON),
    "more than 1 MiB": HostileSet(lambda: b" " * (MIB + 1), "the response was larger than 1048576 bytes"),
}
TABLE = {**KEYS, **NUMBERS, **TEXTS}
