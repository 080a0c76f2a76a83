"""When a store counts as away, and how long until it is tried again (pure; seconds)."""

from __future__ import annotations

FAILURES = 3  # in a row, and the store counts as away
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
STEADY = 10.0  # up for so long: the next pause is the first one again


class Breaker:
    """Counts failures in a row, and spaces the attempts to come back, further apart while they fail."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._up_since: float | None = None

    def succeeded(self) -> None:
        """An answer came in time."""
        self._failures = 0

    def failed(self) -> bool:
        """An answer did not come in time, or was an error; tells whether the store is to be left alone."""
        self._failures += 1
        return self._failures >= FAILURES

    def came_up(self, now: float) -> None:
        """The store answers again."""
        self._failures = 0
        self._up_since = now

    def pause(self, now: float, chance: float) -> float:
        """How long to wait before the next attempt. `chance`: 0 to 1, so that replicas do not come all at once."""
        if self._up_since is not None and now - self._up_since >= STEADY:
            self._pause = FIRST_PAUSE
        self._up_since = None
        pause, self._pause = self._pause, min(LONGEST_PAUSE, 2 * self._pause)
        return pause * (0.5 + chance / 2)
