"""An issuer of JSON Web Tokens: signs them, and publishes its keys on a real port."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

ISSUER, AUDIENCE = "https://id.example.com", "chat"


@functools.cache
def private_key(_name: str) -> rsa.RSAPrivateKey:
    """One for each name; to make one takes half a second."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Issuer:
    """`async with Issuer() as issuer:`; `settings` is its entry in `auth.jwt`."""

    def __init__(self) -> None:
        self.key = private_key("issuer")
        self.fetches = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Issuer:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def settings(self) -> dict[str, Any]:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": f"http://127.0.0.1:{port}/jwks.json"}

    def token(self, subject: str = "ann", *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token that is right but for these claims; None leaves one out."""
        now = int(time.time())
        every = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 300, **claims}
        given = {name: value for name, value in every.items() if value is not None}
        return jwt.encode(given, self.key, algorithm="RS256", headers={"kid": "k1", **(headers or {})})

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key as it is published."""
        return {**RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True), "kid": "k1", "use": "sig"}

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.fetches += 1
        body = json.dumps({"keys": [self.jwk]}).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        await writer.drain()
        writer.close()
