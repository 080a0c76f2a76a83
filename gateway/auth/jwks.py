"""The keys of an issuer, as last published: fetched in the background and kept while the issuer is down.

A token with an unknown key makes the gateway ask its issuer anew, at most once in a while; all who wait for the
answer share one question. How a document is fetched is in `jwks_fetch`, what a key may do in `jwks_keys`.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import aiohttp
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import PyJWTError, get_algorithm_by_name
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from structlog.typing import FilteringBoundLogger

from gateway.config import JwtSettings
from gateway.errors import Unauthenticated

MOST_KEYS = 256
SMALLEST_RSA, LARGEST_RSA = 2048, 8192  # bits
LONGEST_NUMBER = 2048  # characters in base64url

KIND_OF: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {
        **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
        "ES256": ("EC", "P-256"),
        "ES384": ("EC", "P-384"),
        "ES512": ("EC", "P-521"),
        "EdDSA": ("OKP", "Ed25519"),
    }
)
_NUMBERS = MappingProxyType({"RSA": ("n", "e"), "EC": ("x", "y"), "OKP": ("x",)})
_READERS = MappingProxyType(
    {"RSA": RSAAlgorithm.from_jwk, "EC": ECAlgorithm.from_jwk, "OKP": OKPAlgorithm.from_jwk}
)
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class JwksError(Exception):
    """An issuer's key set cannot be had; the text is the reason."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, for one algorithm."""

    algorithm: Algorithm
    public: Any
    thumbprint: str

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's."""
        return self.algorithm.verify(signed, self.public, signature)


class KeySet:
    """The usable keys of one issuer; `len` counts them, `left_out` the others."""

    def __init__(self) -> None:
        self._by_id: dict[tuple[str, str], VerifyingKey] = {}
        self._by_algorithm: dict[str, dict[str, VerifyingKey]] = {}
        self._ids: set[str] = set()
        self._thumbprints: set[str] = set()
        self.left_out = 0

    @classmethod
    def read(cls, text: bytes, algorithms: Collection[str]) -> KeySet:
        """The set in a document, for tokens of these algorithms.

        Raises:
            JwksError: the document is no key set.
        """
        keys = cls()
        for jwk in _members(text):
            keys._add(jwk, algorithms)
        return keys

    def __len__(self) -> int:
        return len(self._thumbprints)

    def has(self, thumbprint: str) -> bool:
        """Whether a key that once was in the set still is."""
        return thumbprint in self._thumbprints

    def key(self, key_id: str | None, algorithm: str) -> VerifyingKey | None:
        """The key of that id; without an id the only one that fits. None: a newer set may have it.

        Raises:
            Unauthenticated: that key is not for this algorithm, or several fit and none is named.
        """
        if key_id is None:
            return self._only_one(algorithm)
        found = self._by_id.get((key_id, algorithm))
        if found is None and key_id in self._ids:
            raise Unauthenticated("The token names a key (kid) that is not for its algorithm (alg).")
        return found

    def _only_one(self, algorithm: str) -> VerifyingKey | None:
        fitting = [*self._by_algorithm.get(algorithm, {}).values()]
        if len(fitting) > 1:
            raise Unauthenticated("The token names no key (kid), and its issuer has several.")
        return fitting[0] if fitting else None

    def _add(self, jwk: object, algorithms: Collection[str]) -> None:
        """The first key of an id and an algorithm stays."""
        key_id, keys = _usable(jwk, algorithms)
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
        raise JwksError("what was sent is not JSON") from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise JwksError("what was sent is not a JSON object with a list named keys")
    if len(keys) > MOST_KEYS:
        raise JwksError(f"there are more than {MOST_KEYS} keys in the set")
    return keys


def _usable(jwk: object, algorithms: Collection[str]) -> tuple[str | None, dict[str, VerifyingKey]]:
    """The id of a published key, and the key for each of the algorithms that it may verify."""
    if not isinstance(jwk, dict) or not _is_for_signatures(jwk) or not isinstance(jwk.get("kid", ""), str):
        return None, {}
    fitting = [name for name in algorithms if _fits(jwk, name)]
    public = _public_key(jwk) if fitting else None
    if public is None:
        return None, {}
    whole = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    thumbprint = hashlib.sha256(whole).hexdigest()
    keys = {name: VerifyingKey(get_algorithm_by_name(name), public, thumbprint) for name in fitting}
    return jwk.get("kid"), keys


def _is_for_signatures(jwk: Mapping[str, Any]) -> bool:
    """RFC 7517 4.2 and 4.3."""
    operations = jwk.get("key_ops", ["verify"])
    may_verify = isinstance(operations, list) and "verify" in operations
    return may_verify and jwk.get("use", "sig") == "sig" and not _PRIVATE & jwk.keys()


def _fits(jwk: Mapping[str, Any], algorithm: str) -> bool:
    kind = (jwk.get("kty"), jwk.get("crv"))
    return KIND_OF.get(algorithm) == kind and jwk.get("alg", algorithm) == algorithm


def _public_key(jwk: Mapping[str, Any]) -> Any:
    """None: it is malformed, or too weak."""
    kind = jwk["kty"]
    numbers = {name: jwk.get(name) for name in _NUMBERS[kind]}
    if not all(isinstance(number, str) and len(number) <= LONGEST_NUMBER for number in numbers.values()):
        return None
    try:
        public = _READERS[kind]({"kty": kind, "crv": jwk.get("crv"), **numbers})
    except (PyJWTError, ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(public, RSAPublicKey) and not SMALLEST_RSA <= public.key_size <= LARGEST_RSA:
        return None
    return public


TIMEOUT = 5.0  # seconds for all of it
LARGEST = 1024 * 1024  # bytes
_HEADERS = {
    "Accept": "application/json, application/jwk-set+json",
    "Accept-Encoding": "identity",  # so that the bound on its size is the bound on the work
    "User-Agent": "flowise-gateway",
}


class JwksFetch:
    """Open from `start` to `close`; each question has a connection of its own."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __call__(self, url: str) -> bytes:
        """The document behind a URL.

        Raises:
            JwksError: there is none, or it is too large; the text is the reason.
        """
        if self._session is None:
            raise JwksError("the session is not open")
        try:
            async with self._session.get(url, allow_redirects=False) as answer:
                return await _body(answer)
        except TimeoutError:
            raise JwksError(f"no whole answer within {TIMEOUT:g} s") from None
        except (aiohttp.ClientError, ValueError) as error:  # ValueError: a host name that cannot be
            raise JwksError(f"no valid answer ({type(error).__name__})") from error


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    if answer.status != 200:
        raise JwksError(f"the answer was {answer.status}")
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise JwksError("the answer was compressed, though that was not asked for")
    body = bytearray()
    async for part in answer.content.iter_any():
        body += part
        if len(body) > LARGEST:
            raise JwksError(f"the answer was larger than {LARGEST} bytes")
    return bytes(body)


ASK_AGAIN_AFTER = 30.0  # seconds, for tokens with unknown keys; also when the last answer was none
REFRESH_EVERY = 600.0  # seconds, so that withdrawn keys go

Fetch = Callable[[str], Awaitable[bytes]]
Start = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]


class IssuerKeys:
    """The keys of one issuer.

    `fetch` gives the document behind a URL or raises JwksError; `start` runs something in the background.
    """

    def __init__(
        self, settings: JwtSettings, fetch: Fetch, start: Start, logger: FilteringBoundLogger
    ) -> None:
        self.settings = settings
        self._fetch = fetch
        self._start = start
        self._logger = logger
        self._fetching: asyncio.Task[None] | None = None
        self._may_ask_at = -math.inf
        self._refresh_at = -math.inf
        self.current: KeySet | None = None  # None: none came yet

    def tick(self, now: float) -> None:
        """Ask for the keys if they are old; `now` in monotonic seconds."""
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_EVERY
            self._ask()

    async def newer(self, now: float) -> KeySet | None:
        """The keys after the issuer was asked anew, if it may be asked at this time; else those that there are."""
        if not self._is_fetching and now >= self._may_ask_at:
            self._may_ask_at = now + ASK_AGAIN_AFTER
            self._ask()
        if self._fetching is not None:
            await asyncio.wait((self._fetching,))  # who leaves takes the answer from nobody else
        return self.current

    @property
    def _is_fetching(self) -> bool:
        return self._fetching is not None and not self._fetching.done()

    def _ask(self) -> None:
        if not self._is_fetching:
            self._fetching = self._start(self._refresh(), "jwks")

    async def _refresh(self) -> None:
        issuer = self.settings.issuer
        try:
            keys = KeySet.read(await self._fetch(self.settings.jwks_url), self.settings.algorithms)
        except JwksError as error:
            self._logger.warning("jwks_unavailable", issuer=issuer, reason=str(error))
            return
        self.current = keys
        log = self._logger.info if keys else self._logger.warning
        log("jwks_loaded", issuer=issuer, count=len(keys), left_out=keys.left_out)
