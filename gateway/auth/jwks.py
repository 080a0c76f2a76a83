"""The public keys of an issuer (RFC 7517): fetched in the background, kept while the issuer is down.

A token with an unknown key triggers a fetch, which all such tokens share, at most every `RETRY_AFTER` seconds. PyJWT's
own PyJWKClient is not used: it blocks the event loop, and has no keys while the issuer is down.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import aiohttp
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import PyJWK, PyJWTError

from gateway.aio import Tasks
from gateway.causes import cause_of
from gateway.config import JwtSettings
from gateway.errors import Unauthenticated
from gateway.telemetry.logs import Logger

MOST_KEYS = 256
SMALLEST_RSA, LARGEST_RSA = 2048, 8192  # bits
KEY_TYPES: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {
        **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
        "ES256": ("EC", "P-256"),
        "ES384": ("EC", "P-384"),
        "ES512": ("EC", "P-521"),
        "EdDSA": ("OKP", "Ed25519"),
    }
)  # `kty` and `crv` of the keys for each algorithm
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class JwksError(Exception):
    """An issuer's key set is not available; the text is the reason."""


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A public key for one algorithm. The thumbprint is the same for all algorithms and ids of the key."""

    jwk: PyJWK
    thumbprint: str


class KeySet:
    """The usable keys of one issuer; `len` counts them, `left_out` the others."""

    def __init__(self) -> None:
        self._by_id: dict[tuple[str, str], PublishedKey] = {}
        self._by_algorithm: dict[str, dict[str, PublishedKey]] = {}
        self._ids: set[str] = set()
        self._thumbprints: set[str] = set()
        self.left_out = 0

    @classmethod
    def read(cls, text: bytes, algorithms: Collection[str]) -> KeySet:
        """The key set in a document, for tokens of these algorithms.

        Raises:
            JwksError: the document is not a key set.
        """
        keys = cls()
        for jwk in _members(text):
            keys._add(jwk, algorithms)
        return keys

    def __len__(self) -> int:
        return len(self._thumbprints)

    def has(self, thumbprint: str) -> bool:
        return thumbprint in self._thumbprints

    def key(self, key_id: str | None, algorithm: str) -> PublishedKey | None:
        """The key with this id, or without an id the only one for the algorithm. None: a newer set may have it.

        Raises:
            Unauthenticated: the key is for another algorithm, or there are several and none is named.
        """
        if key_id is None:
            return self._only_key(algorithm)
        found = self._by_id.get((key_id, algorithm))
        if found is None and key_id in self._ids:
            raise Unauthenticated("The token names a key (kid) that is not for its algorithm (alg).")
        return found

    def _only_key(self, algorithm: str) -> PublishedKey | None:
        fitting = [*self._by_algorithm.get(algorithm, {}).values()]
        if len(fitting) > 1:
            raise Unauthenticated("The token must name its key (kid): its issuer has several.")
        return fitting[0] if fitting else None

    def _add(self, jwk: object, algorithms: Collection[str]) -> None:
        """Of two keys with the same id and algorithm the first is kept."""
        key_id = jwk.get("kid") if isinstance(jwk, dict) else None
        keys = _usable(jwk, algorithms)
        new = {name: key for name, key in keys.items() if (key_id, name) not in self._by_id}
        if not new:
            self.left_out += 1
        for algorithm, key in new.items():
            self._by_algorithm.setdefault(algorithm, {})[key.thumbprint] = key
            self._thumbprints.add(key.thumbprint)
            if key_id is not None:
                self._by_id[key_id, algorithm] = key
                self._ids.add(key_id)


def _members(text: bytes) -> list[Any]:
    try:
        document = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        raise JwksError("the response is not JSON") from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise JwksError("the response is not a JSON object with a list named keys")
    if len(keys) > MOST_KEYS:
        raise JwksError(f"the set has more than {MOST_KEYS} keys")
    return keys


def _usable(jwk: object, algorithms: Collection[str]) -> dict[str, PublishedKey]:
    """The key for each algorithm that it may verify."""
    if not isinstance(jwk, dict) or not _is_for_signatures(jwk) or not isinstance(jwk.get("kid", ""), str):
        return {}
    keys = ((name, _key(jwk, name)) for name in algorithms if _fits(jwk, name))
    return {name: key for name, key in keys if key is not None}


def _is_for_signatures(jwk: Mapping[str, Any]) -> bool:
    """RFC 7517 4.2 and 4.3."""
    operations = jwk.get("key_ops", ["verify"])
    may_verify = isinstance(operations, list) and "verify" in operations
    return may_verify and jwk.get("use", "sig") == "sig" and not _PRIVATE & jwk.keys()


def _fits(jwk: Mapping[str, Any], algorithm: str) -> bool:
    key_type = (jwk.get("kty"), jwk.get("crv"))
    return KEY_TYPES.get(algorithm) == key_type and jwk.get("alg", algorithm) == algorithm


def _key(jwk: dict[str, Any], algorithm: str) -> PublishedKey | None:
    """None if it is malformed, too weak, or of a kind that this build of OpenSSL does not support."""
    try:
        key = PyJWK(jwk, algorithm)
    except (PyJWTError, UnsupportedAlgorithm):
        return None
    if isinstance(key.key, RSAPublicKey) and not SMALLEST_RSA <= key.key.key_size <= LARGEST_RSA:
        return None
    der = key.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublishedKey(key, hashlib.sha256(der).hexdigest())


TIMEOUT = 5.0  # seconds, for the whole response
LARGEST = 1024 * 1024  # bytes
_HEADERS = {
    "Accept": "application/json, application/jwk-set+json",
    "Accept-Encoding": "identity",  # then `LARGEST` also bounds the work of reading it
    "User-Agent": "flowise-gateway",
}


class JwksFetch:
    """Fetches key sets, each over its own connection. Open from `start` to `close`."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __call__(self, url: str) -> bytes:
        """The document at a URL.

        Raises:
            JwksError: there is none, or it is too large.
        """
        if self._session is None:
            raise JwksError("the session is not open")
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                return await _body(response)
        except TimeoutError:
            raise JwksError(f"no complete response within {TIMEOUT:g} s") from None
        except aiohttp.ClientConnectionError as error:
            raise JwksError(f"no response ({cause_of(error).words})") from error
        except (aiohttp.ClientError, ValueError) as error:  # ValueError: an impossible host name
            raise JwksError(f"no valid response ({type(error).__name__})") from error


async def _body(response: aiohttp.ClientResponse) -> bytes:
    if response.status != 200:
        raise JwksError(f"the response status was {response.status}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise JwksError("the response was compressed, which was not requested")
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > LARGEST:
            raise JwksError(f"the response was larger than {LARGEST} bytes")
    return bytes(body)


RETRY_AFTER = 30.0  # seconds between fetches for tokens with unknown keys, also after a failed fetch
REFRESH_EVERY = 600.0  # seconds from a successful fetch; bounds how long a withdrawn key is accepted

Fetch = Callable[[str], Awaitable[bytes]]


class IssuerKeys:
    """The keys of one issuer. `fetch` returns the document at a URL or raises JwksError."""

    def __init__(self, settings: JwtSettings, fetch: Fetch, tasks: Tasks, logger: Logger) -> None:
        self.settings = settings
        self._fetch = fetch
        self._tasks = tasks
        self._logger = logger
        self._fetching: asyncio.Task[None] | None = None
        self._may_fetch_at = -math.inf
        self._refresh_at = -math.inf
        self.current: KeySet | None = None  # None: none was fetched yet

    def tick(self, now: float) -> None:
        """Refresh the keys if they are old; `now` in monotonic seconds."""
        if now >= self._refresh_at:
            self._refresh_at = now + RETRY_AFTER  # later, if this fetch succeeds
            self._start_fetch(now)

    async def refetched(self, now: float) -> KeySet | None:
        """The keys after a fetch; those that are known if the last fetch was less than `RETRY_AFTER` ago."""
        if not self._is_fetching and now >= self._may_fetch_at:
            self._may_fetch_at = now + RETRY_AFTER
            self._start_fetch(now)
        if self._fetching is not None:
            await asyncio.wait((self._fetching,))  # a caller that is cancelled does not cancel the fetch
        return self.current

    def retry_after(self, now: float) -> int:
        """Whole seconds until a token may trigger a fetch, at least 1."""
        return max(1, math.ceil(self._may_fetch_at - now))

    @property
    def _is_fetching(self) -> bool:
        return self._fetching is not None and not self._fetching.done()

    def _start_fetch(self, now: float) -> None:
        if not self._is_fetching:
            self._fetching = self._tasks.start(self._refresh(now), "jwks")

    async def _refresh(self, now: float) -> None:
        issuer = self.settings.issuer
        try:
            keys = KeySet.read(await self._fetch(self.settings.jwks_url), self.settings.algorithms)
        except JwksError as error:
            self._logger.warning("jwks_unavailable", issuer=issuer, reason=str(error))
            return
        self.current = keys
        self._refresh_at = now + REFRESH_EVERY
        log = self._logger.info if keys else self._logger.warning
        log("jwks_loaded", issuer=issuer, count=len(keys), left_out=keys.left_out)
