"""The keys that open the gateway, held in memory: a key is checked without a file, a lock or a wait.

Keys that have ended are held as well, so that an unknown, a wrong, a revoked and an expired key are refused by
the same steps and in the same words.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.auth.key_format import KeyFormError, digest_of, parse_key
from gateway.auth.keys_model import KeyEntry
from gateway.config import Limit
from gateway.errors import Unauthenticated

NOT_VALID = "This API key is not valid: it is unknown, revoked or expired. Ask for a new one."


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key, without its secret.

    Attributes:
        id: the 8 letters behind its `fgw_`.
        name: whose it is; the keys of one rotation share it.
        routes: names of the routes that it may use; None: every route.
        expires: when it ends, in seconds since the epoch; `inf`: never; `-inf`: it was revoked.
        limits: how much the key may with all its sessions; their `by` says nothing.
        hash: the SHA-256 of the whole key.
    """

    id: str
    name: str
    routes: frozenset[str] | None = None
    expires: float = math.inf
    limits: tuple[Limit, ...] = ()
    hash: bytes = field(default=bytes(32), repr=False)


_NOBODY = ApiKey("", "", expires=-math.inf)


def api_key(entry: KeyEntry) -> ApiKey:
    """What an entry of the keys file allows."""
    expires = math.inf if entry.expires is None else entry.expires
    return ApiKey(
        id=entry.id,
        name=entry.name,
        routes=frozenset(entry.routes) or None,
        expires=expires if entry.revoked is None else -math.inf,
        limits=entry.limits,
        hash=bytes.fromhex(entry.hash.removeprefix("sha256:")),
    )


class Keyring:
    """All keys by their id. Times are seconds since the epoch."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = {key.id: key for key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """Hold these from now on, and no others."""
        self._keys = {key.id: key for key in keys}

    def next_end(self, now: float) -> float:
        """When the first of the keys that are valid now expires; `inf`: none does."""
        return min((key.expires for key in self._keys.values() if key.expires > now), default=math.inf)

    def check(self, text: str, now: float) -> ApiKey:
        """The key that this text is.

        Raises:
            Unauthenticated: it is none that is valid now. Only what can be told without the keys is told apart.
        """
        try:
            key_id = parse_key(text)
        except KeyFormError as error:
            raise Unauthenticated(str(error)) from None
        key = self._keys.get(key_id, _NOBODY)
        is_same = hmac.compare_digest(key.hash, digest_of(text))
        if not is_same & (now < key.expires):
            raise Unauthenticated(NOT_VALID)
        return key

    def get(self, key_id: str, now: float) -> ApiKey | None:
        """The key with this id, if it is valid now: what its streams and session tokens depend on."""
        key = self._keys.get(key_id)
        return key if key is not None and now < key.expires else None
