"""The text of a JSON Web Token, taken apart strictly; what it says is not verified here (pure).

RFC 7519 and 7515 leave room that only attackers use: names that come twice, two spellings of one token, headers
that bring their own key (`jku jwk x5u x5c`). The first two are refused, the last are never looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from gateway.errors import Unauthenticated
from gateway.identity import base64url

LONGEST_TOKEN = 8192  # characters
LONGEST_KEY_ID = 256  # characters
_EXTENSIONS = ("crit", "b64")  # RFC 7515 4.1.11, RFC 7797


@dataclass(frozen=True, slots=True, repr=False)
class UnverifiedToken:
    """What a token claims to be.

    Attributes:
        algorithm: `alg` of its header, any text.
        key_id: `kid` of its header.
        claims: the payload.
        signed: the bytes that the signature is for.
    """

    algorithm: str
    key_id: str | None
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


def take_apart(token: str) -> UnverifiedToken:
    """What a token claims.

    Raises:
        Unauthenticated: it is too long or malformed, or its header asks for what is not supported.
    """
    if len(token) > LONGEST_TOKEN:
        raise Unauthenticated(f"The token is too long: it has at most {LONGEST_TOKEN} characters.")
    if token.count(".") != 2:
        raise Unauthenticated("The token is malformed: a signed JSON Web Token has three parts.")
    header_text, claims_text, signature_text = token.split(".")
    header = _object(header_text, "header")
    claims = _object(claims_text, "payload")
    signature = _content(signature_text, "signature")
    if any(name in header for name in _EXTENSIONS):
        raise Unauthenticated("The token's header asks for an extension (crit, b64) that is not supported.")
    signed = token[: -len(signature_text) - 1].encode("ascii")
    return UnverifiedToken(_algorithm(header), _key_id(header), claims, signed, signature)


def _content(text: str, part: str) -> bytes:
    try:
        return base64url.decode(text)
    except ValueError:
        raise Unauthenticated(
            f"The token is malformed: its {part} is not base64url without padding."
        ) from None


def _object(text: str, part: str) -> dict[str, Any]:
    content = _content(text, part)
    try:
        value = _json(content.decode("utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Unauthenticated(
            f"The token is malformed: its {part} is not a JSON object in UTF-8 with every name once."
        )
    return value


def _algorithm(header: Mapping[str, Any]) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise Unauthenticated("The token is malformed: its header names no algorithm (alg).")
    return algorithm


def _key_id(header: Mapping[str, Any]) -> str | None:
    if "kid" not in header:
        return None
    key_id = header["kid"]
    if not isinstance(key_id, str) or len(key_id) > LONGEST_KEY_ID:
        raise Unauthenticated(
            f"The token is malformed: its key id (kid) is a text of at most {LONGEST_KEY_ID} characters."
        )
    return key_id


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name comes twice")
    return names


def _no_number(_: str) -> NoReturn:
    raise ValueError("NaN and infinity are no JSON")


_json = json.JSONDecoder(object_pairs_hook=_each_name_once, parse_constant=_no_number).decode
