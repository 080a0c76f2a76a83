"""To whom the ids of stored feedback were given: a change names the id alone, and Flowise lets anyone make it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from gateway.admission.store import StoreBudget

KEPT_FOR = 86_400.0  # seconds
MOST_KEPT = 50_000  # about 15 MB; beyond it the oldest is forgotten


class Owners:
    """Those that this process has seen; `clock` in seconds. An owner is a short text of the caller's choice."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[str, float]] = {}  # by id, the oldest first: the owner, and until when

    def __len__(self) -> int:
        return len(self._kept)

    async def remember(self, name: str, owner: str, budget: StoreBudget) -> None:  # noqa: ARG002 - shared
        """Remember the owner of this id for `KEPT_FOR`. `budget`: how long the request may wait for a store."""
        now = self._clock()
        self._kept.pop(name, None)
        self._kept[name] = (owner, now + KEPT_FOR)
        while len(self._kept) > MOST_KEPT or next(iter(self._kept.values()))[1] <= now:
            del self._kept[next(iter(self._kept))]

    async def find(self, name: str, budget: StoreBudget) -> str | None:  # noqa: ARG002 - shared
        """The owner of this id; None if it is not known.

        Raises:
            StoreUnavailable: a store that would know does not answer.
        """
        owner, until = self._kept.get(name, ("", 0.0))
        return owner if owner and until > self._clock() else None
