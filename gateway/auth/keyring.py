"""The API keys in memory, so that a key is checked without a file, a lock or a wait.

Keys that have ended are kept as well: an unknown, a wrong, a revoked and an expired key are refused by the same steps
and with the same error.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Iterable

from gateway.auth.caller import Caller
from gateway.auth.key_format import KeyFormError, hash_of, parse_key
from gateway.auth.keys_model import ApiKey
from gateway.errors import Unauthenticated

NOT_VALID = "This API key is not valid: it is unknown, revoked or expired. Ask for a new one."
_UNKNOWN = ApiKey.model_construct(id="", name="", hash=f"sha256:{'0' * 64}", created=0.0, revoked=0.0)


class Keyring:
    """Times are seconds since the epoch.

    Attributes:
        next_end: when the next of the keys ends that may be in use: those that were valid at the last `look_ahead`, or
            have been accepted since. The wall clock may step forward and back, so a key that has ended once may be
            accepted again, and ends again.
    """

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self.replace(keys)
        self.next_end = -math.inf

    def __len__(self) -> int:
        return len(self._keys)

    def replace(self, keys: Iterable[ApiKey]) -> None:
        self._keys = {key.id: key for key in keys}
        self._callers: dict[str, Caller] = {}  # of those that were used

    def look_ahead(self, now: float) -> None:
        """Set `next_end`: `inf` if none of the valid keys expires."""
        self.next_end = min(
            (key.ends_at for key in self._keys.values() if key.is_valid(now)), default=math.inf
        )

    def check(self, text: str, now: float) -> ApiKey:
        """The key with this text.

        Raises:
            Unauthenticated: it is not valid. The error has details only for a malformed text.
        """
        try:
            key_id = parse_key(text)
        except KeyFormError as error:
            raise Unauthenticated(str(error)) from None
        key = self._keys.get(key_id, _UNKNOWN)
        is_same = hmac.compare_digest(key.hash, hash_of(text))
        ends_at = key.ends_at
        if not is_same & (now < ends_at):
            raise Unauthenticated(NOT_VALID)
        self.next_end = min(self.next_end, ends_at)
        return key

    def get(self, key_id: str, now: float) -> ApiKey | None:
        """The key with this id, if it is valid."""
        key = self._keys.get(key_id)
        if key is None or not key.is_valid(now):
            return None
        self.next_end = min(self.next_end, key.ends_at)
        return key

    def caller_of(self, key: ApiKey) -> Caller:
        """Who uses a key that `check` has just returned."""
        caller = self._callers.get(key.id)
        if caller is None:
            name, allowed = key.name, key.allowed_routes
            caller = Caller(f"key:{name}", "api_key", name, allowed, key.id, name, key.limits)
            self._callers[key.id] = caller
        return caller
