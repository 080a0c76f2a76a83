"""When a worker that died may begin again, and when it is no use (pure). Times are monotonic seconds."""

from __future__ import annotations

FIRST = 0.2  # seconds before the next start; each death within WITHIN doubles it
DEATHS, WITHIN = 5, 60.0  # so many deaths in so many seconds are a crash loop
UNREADY = 3  # as are so many in a row before it was ever ready


class Restarts:
    """The deaths of one worker and of those that replaced it."""

    def __init__(self) -> None:
        self._deaths: list[float] = []
        self._unready = 0

    def died(self, now: float, *, was_ready: bool) -> float | None:
        """How long to wait before the next start, in seconds; None: it is a crash loop."""
        self._unready = 0 if was_ready else self._unready + 1
        self._deaths = [at for at in self._deaths if now - at < WITHIN]
        self._deaths.append(now)
        if self._unready >= UNREADY or len(self._deaths) >= DEATHS:
            return None
        return FIRST * 2.0 ** (len(self._deaths) - 1)
