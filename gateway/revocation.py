"""Ends the requests of an API key, and of its session tokens, once the key is revoked or has expired."""

from __future__ import annotations

from collections.abc import Callable

from gateway.auth.keyring import Keyring
from gateway.errors import Unauthenticated
from gateway.exchange import Exchange
from gateway.pipeline import Pipeline
from gateway.relay.registry import InFlight


class Revocation:
    """`now`: seconds since the epoch."""

    def __init__(
        self, keyring: Keyring, pipeline: Pipeline, in_flight: InFlight, now: Callable[[], float]
    ) -> None:
        self._keyring = keyring
        self._pipeline = pipeline
        self._in_flight = in_flight
        self._now = now

    def tick(self, _: float) -> None:
        """Apply once a key has expired."""
        if self._now() >= self._keyring.next_end:
            self.apply()

    def apply(self) -> None:
        """Terminate every request whose key is not valid any more; called when the keys have changed, too."""
        epoch = self._now()
        self._keyring.look_ahead(epoch)

        def has_ended(exchange: Exchange) -> bool:
            key_id = exchange.caller.key_id
            return bool(key_id) and self._keyring.get(key_id, epoch) is None

        error = Unauthenticated("The key of this request has been revoked or has expired.")
        self._in_flight.terminate(error, has_ended)  # first, so that they do not count as disconnects
        self._pipeline.reject_pending(error, has_ended)
