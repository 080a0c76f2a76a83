"""The keys in the document that an issuer publishes (RFC 7517), read in bounded steps (pure).

One call skips over the document, and cuts it into keys without building anything of them. Of each key only the members
of a public key are built, each up to a length, and the key is made once for all its algorithms. So no step takes longer
than a few milliseconds, and the costliest document of 1 MiB 20 ms: read it in a thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.structs import asdict, astuple

from gateway.errors import Unauthenticated
from gateway.flowise.json_scan import first_items

if TYPE_CHECKING:
    from jwt.algorithms import AllowedPublicKeys

MOST_KEYS = 256
LARGEST_KEY = 32 * 1024  # bytes of one key; a chain of certificates (x5c) takes most of it
LONGEST_NUMBER = 2048  # characters; the largest RSA key has 1366
LONGEST_KEY_ID = 256  # characters
SMALLEST_RSA, LARGEST_RSA = 2048, 8192  # bits
LARGEST_EXPONENT = 2**31 - 1  # as Go has it; one as long as the key makes each signature cost 9 ms
KEY_TYPES: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {
        **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
        "ES256": ("EC", "P-256"),
        "ES384": ("EC", "P-384"),
        "ES512": ("EC", "P-521"),
        "EdDSA": ("OKP", "Ed25519"),
    }
)  # `kty` and `crv` of the keys for each algorithm

_Number = Annotated[str, Meta(max_length=LONGEST_NUMBER)] | UnsetType
_KeyId = Annotated[str, Meta(max_length=LONGEST_KEY_ID)] | UnsetType
_Text = str | UnsetType
_Secret = Raw | UnsetType
_MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class JwksError(Exception):
    """An issuer's key set is not available; the text is the reason."""


class _PublicKey(Struct):
    """What is looked at of a key. Other members are skipped over."""

    kty: _Text = UNSET
    crv: _Text = UNSET
    n: _Number = UNSET
    e: _Number = UNSET
    x: _Number = UNSET
    y: _Number = UNSET
    alg: _Text = UNSET
    use: _Text = UNSET
    kid: _KeyId = UNSET
    key_ops: list[str] | UnsetType = UNSET
    d: _Secret = UNSET
    p: _Secret = UNSET
    q: _Secret = UNSET
    dp: _Secret = UNSET
    dq: _Secret = UNSET
    qi: _Secret = UNSET
    oth: _Secret = UNSET
    k: _Secret = UNSET

    @property
    def is_secret(self) -> bool:
        secrets = (self.d, self.p, self.q, self.dp, self.dq, self.qi, self.oth, self.k)
        return any(secret is not UNSET for secret in secrets)

    @property
    def is_for_signatures(self) -> bool:
        """RFC 7517 4.2 and 4.3."""
        may_verify = self.key_ops is UNSET or "verify" in self.key_ops
        return may_verify and self.use in (UNSET, "sig") and not self.is_secret

    def fits(self, algorithm: str) -> bool:
        key_type = (self.kty, None if self.crv is UNSET else self.crv)
        return KEY_TYPES.get(algorithm) == key_type and self.alg in (UNSET, algorithm)


_DOCUMENT = msgspec.json.Decoder(msgspec.defstruct("_Document", [("keys", Raw)]))
_KEY = msgspec.json.Decoder(_PublicKey)


class PublishedKey(Struct, frozen=True):
    """A public key. `thumbprint`: the same for all algorithms and ids of the key."""

    key: AllowedPublicKeys
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
        for raw in _raw_keys(text):
            keys._add(raw, algorithms)
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

    def _add(self, raw: Raw, algorithms: Collection[str]) -> None:
        """Of two keys with the same id and algorithm the first is kept."""
        jwk = _decoded(raw)
        fitting = [] if jwk is None else [name for name in algorithms if jwk.fits(name)]
        key_id = None if jwk is None or jwk.kid is UNSET else jwk.kid
        new = [name for name in fitting if (key_id, name) not in self._by_id]
        key = None if jwk is None or not new else _key(jwk, new[0])
        if key is None:
            self.left_out += 1
            return
        self._thumbprints.add(key.thumbprint)
        for algorithm in new:
            self._by_algorithm.setdefault(algorithm, {})[key.thumbprint] = key
            if key_id is not None:
                self._by_id[key_id, algorithm] = key
                self._ids.add(key_id)


def _raw_keys(text: bytes) -> list[Raw]:
    try:
        text.decode()  # what is skipped is not checked
        (array,) = astuple(_DOCUMENT.decode(text))  # raw: it may be there 100,000 times
        keys = first_items(array, MOST_KEYS + 1)
    except msgspec.ValidationError:
        raise JwksError("the response is not a JSON object with a list named keys") from None
    except _MALFORMED:
        raise JwksError("the response is not JSON") from None
    if len(keys) > MOST_KEYS:
        raise JwksError(f"the set has more than {MOST_KEYS} keys")
    return keys


def _decoded(raw: Raw) -> _PublicKey | None:
    """None if it is no key for signatures, or too large."""
    if len(raw) > LARGEST_KEY:
        return None
    try:
        jwk = _KEY.decode(raw)
    except _MALFORMED:
        return None
    return jwk if jwk.is_for_signatures else None


def _key(jwk: _PublicKey, algorithm: str) -> PublishedKey | None:
    """None if it is malformed, too weak, too dear, or of a kind that this build of OpenSSL does not support."""
    # 9 MB that a gateway without issuers does not need
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - with an issuer only
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - as above
    from jwt import PyJWK, PyJWTError  # noqa: PLC0415 - as above

    try:
        key = PyJWK({name: value for name, value in asdict(jwk).items() if value is not UNSET}, algorithm).key
    except (PyJWTError, UnsupportedAlgorithm):
        return None
    if isinstance(key, RSAPublicKey):
        is_weak_or_dear = not SMALLEST_RSA <= key.key_size <= LARGEST_RSA
        if is_weak_or_dear or key.public_numbers().e > LARGEST_EXPONENT:
            return None
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublishedKey(key, hashlib.sha256(der).hexdigest())
