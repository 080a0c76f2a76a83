"""What becomes of a step that the shared store did when nobody waited for the answer any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.admission.limiter import Admission
from gateway.admission.quotas import Ask, slots_of
from gateway.admission.redis.commands import step_of
from gateway.limiting.shared import SharedStore


class Late:
    """Takes the answer to one step, and gives back what nobody uses.

    Attributes:
        admission: of the run that was let in without the store; None: the request was refused, or is gone.
    """

    def __init__(self, store: SharedStore, asks: Sequence[Ask], lease: str) -> None:
        self._store = store
        self.asks = asks
        self.lease = lease
        self.admission: Admission | None = None

    def __call__(self, answer: Any) -> None:
        """The store has done it, or refused."""
        if not step_of(answer).is_allowed:
            return
        if self.admission is None:
            self._give_back("requests", "tokens")
            if slots := slots_of(self.asks):
                self._store.release(slots, self.lease)
        elif self.admission.is_settled:
            self._give_back("tokens")  # the true count was charged without knowing of the reservation
        else:
            self.admission.is_in_store = True

    def _give_back(self, *kinds: str) -> None:
        if back := {ask.key: -ask.cost for ask in self.asks if ask.rule.kind in kinds}:
            self._store.settle(f"{self.lease}:late", back)
