"""An issuer of JSON Web Tokens for tests: real keys, right and wrong tokens, a server for key sets."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gateway.aio import Tasks, WorkThread
from gateway.auth.jwks import IssuerKeys
from gateway.auth.jwt import JsonWebTokens
from gateway.config import JwtSettings, LogSettings
from gateway.telemetry.logs import make_logger

ISSUER, AUDIENCE = "https://id.example.com", "chat"
NOW = 1_800_000_000
CLAIMS = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": NOW - 10, "exp": NOW + 600}
EVERY_ALGORITHM = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_CURVES = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1, "secp256k1": ec.SECP256K1}
_HASHES = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
_CURVE_OF = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


def settings(**keys: Any) -> JwtSettings:
    """The settings of an issuer, as from a configuration."""
    least = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": f"{ISSUER}/jwks.json"}
    return JwtSettings.model_validate({**least, "algorithms": EVERY_ALGORITHM, "leeway": "30s", **keys})


@cache
def _made(name: str, kind: str) -> Any:
    if kind.isdigit():
        return rsa.generate_private_key(65537, int(kind))
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind]())
    return getattr(ed25519 if kind == "Ed25519" else ed448, f"{kind}PrivateKey").generate()


def rsa_key(name: str = "rsa", bits: int = 2048):
    """A private key; the same for the same name."""
    return _made(name, str(bits))


def ec_key(name: str = "ec", curve: str = "P-256"):
    """A private key; the same for the same name and curve."""
    return _made(name, curve)


def ed_key(name: str = "ed"):
    """A private key; the same for the same name."""
    return _made(name, "Ed25519")


def ed448_key():
    """A private key that no algorithm of the gateway accepts."""
    return _made("ed", "Ed448")


def key_for(algorithm: str):
    """A private key that fits an algorithm."""
    if algorithm == "EdDSA":
        return ed_key()
    return rsa_key() if algorithm[0] in "RP" else ec_key(curve=_CURVE_OF[algorithm])


def b64(content: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _number(value: int, length: int | None = None) -> str:
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


def jwk(key: Any, **members: Any) -> dict[str, Any]:
    """The public half of a key as it is published (RFC 7518 6)."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e), **members}
    if isinstance(public, ec.EllipticCurvePublicKey):
        curve = next(name for name, kind in _CURVES.items() if isinstance(public.curve, kind))
        point, length = public.public_numbers(), (public.curve.key_size + 7) // 8
        return {
            "kty": "EC",
            "crv": curve,
            "x": _number(point.x, length),
            "y": _number(point.y, length),
            **members,
        }
    curve = "Ed25519" if isinstance(public, ed25519.Ed25519PublicKey) else "Ed448"
    return {"kty": "OKP", "crv": curve, "x": b64(public.public_bytes_raw()), **members}


def key_set(*keys: Any) -> bytes:
    """The document that an issuer publishes."""
    return json.dumps({"keys": keys}).encode()


def signature(key: Any, algorithm: str, signed: bytes, *, as_der: bool = False) -> bytes:
    """RFC 7518 3; with `as_der` an ECDSA signature as X.509 writes it."""
    if algorithm == "EdDSA":
        return key.sign(signed)
    digest = _HASHES[algorithm[2:]]()
    if algorithm.startswith("RS"):
        return key.sign(signed, padding.PKCS1v15(), digest)
    if algorithm.startswith("PS"):
        pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
        return key.sign(signed, pss, digest)
    der = key.sign(signed, ec.ECDSA(digest))
    length = (key.curve.key_size + 7) // 8
    return der if as_der else b"".join(part.to_bytes(length, "big") for part in decode_dss_signature(der))


def bytes_of(value: Any) -> bytes:
    """Bytes unchanged, anything else as JSON."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def signed_text(header: Any, claims: Any, sign: Callable[[bytes], bytes]) -> str:
    """A token with any header and claims; `sign` returns the signature of its argument."""
    signed = f"{b64(bytes_of(header))}.{b64(bytes_of(claims))}"
    return f"{signed}.{b64(sign(signed.encode()))}"


def token(
    algorithm: str = "RS256", *, key: Any = None, header: Any = None, claims: Any = None, **changed: Any
) -> str:
    """A token of this issuer. `header` is added to its header; None leaves out a claim."""
    if claims is None:
        claims = {name: value for name, value in {**CLAIMS, **changed}.items() if value is not None}
    head = {"alg": algorithm, "typ": "JWT", "kid": "k1"} | (header or {})
    head = {name: value for name, value in head.items() if value is not None}
    used = key or key_for(algorithm)
    return signed_text(head, claims, lambda signed: signature(used, algorithm, signed))


class Published:
    """A fetch function that returns a key set, and records, delays or fails its calls."""

    def __init__(self, *keys: Any) -> None:
        self.document: bytes | Exception = key_set(*keys)
        self.fetched: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, url: str) -> bytes:
        self.fetched.append(url)
        await self.may_answer.wait()
        if isinstance(self.document, Exception):
            raise self.document
        return self.document


class Clock:
    """Monotonic seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Verifier:
    """A verifier for some issuers, with its clock, tasks and log."""

    def __init__(self, fetch: Any, *issuers: JwtSettings) -> None:
        self.log, self.bugs, self.clock = io.StringIO(), [], Clock()
        self.tasks = Tasks(self.bugs.append)
        logger = make_logger(LogSettings(), self.log)
        thread = WorkThread("jwks")
        self.keys = [IssuerKeys(one, fetch, thread, self.tasks, logger) for one in issuers or (settings(),)]
        self.tokens = JsonWebTokens(self.keys, self.clock)

    @property
    def lines(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [{name: value for name, value in line.items() if name != "time"} for line in lines]

    async def tick(self) -> None:
        """Tick, and wait for the tasks that it starts."""
        self.tokens.tick(self.clock.now)
        await self.tasks.join(5)

    async def verify(self, text: str, now: float = NOW):
        return await self.tokens.verify(text, now)


@asynccontextmanager
async def web_server(answer: Callable[[Any, Any], Any]):
    """A plain HTTP server; `answer(reader, writer)` runs after each request head. Yields URL and heads."""
    heads: list[bytes] = []

    async def serve(reader, writer):
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await answer(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


def http_answer(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *fields]
    return "\r\n".join([*head, "", ""]).encode() + body
