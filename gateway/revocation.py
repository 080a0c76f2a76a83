"""Ends what an API key has begun, and its session tokens with it, once the key is revoked or has expired."""

from __future__ import annotations

from collections.abc import Callable

from gateway.auth.keyring import Keyring
from gateway.errors import Unauthenticated
from gateway.exchange import Exchange
from gateway.pipeline import Pipeline
from gateway.relay.registry import InFlight

_ENDED = "The key of this request has been revoked or has expired."


class Revocation:
    """Looks after everybody who is on the way or has a call open. `now`: seconds since the epoch."""

    def __init__(self, keyring: Keyring, walk: Pipeline, calls: InFlight, now: Callable[[], float]) -> None:
        self._keyring = keyring
        self._walk = walk
        self._calls = calls
        self._now = now
        self._next_end = 0.0

    def tick(self, _: float) -> None:
        """Look when a key has just expired."""
        if self._now() >= self._next_end:
            self.look()

    def look(self) -> None:
        """End what belongs to a key that is not valid any more; also called when the keys have changed."""
        epoch = self._now()
        self._next_end = self._keyring.next_end(epoch)

        def has_ended(exchange: Exchange) -> bool:
            key_id = exchange.caller.key_id
            return bool(key_id) and self._keyring.get(key_id, epoch) is None

        error = Unauthenticated(_ENDED)
        self._calls.turn_away(error, has_ended)  # first: who is told here has not left
        self._walk.reject_pending(error, has_ended)
