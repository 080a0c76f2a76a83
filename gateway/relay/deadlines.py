"""When Flowise takes too long: four clocks of one call (pure; every time is in monotonic seconds).

The connect deadline is the pool's. Flowise's own heartbeats are bytes and count for `idle`; the gateway's
never pass here, so they cannot keep a dead stream open.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass


class Deadline(enum.StrEnum):
    """Which clock ran out."""

    HEAD = "head"
    FIRST_EVENT = "first_event"
    IDLE = "idle"
    TOTAL = "total"


@dataclass(slots=True)
class Deadlines:
    """Limits in seconds (infinite: does not apply), and the moments they are counted from."""

    head: float
    first_event: float
    idle: float
    total: float
    started_at: float
    sent_at: float = math.inf
    head_at: float = math.inf
    last_byte_at: float = math.inf
    is_first_event_seen: bool = False
    is_paused: bool = False

    def passed(self, now: float) -> Deadline | None:
        """The deadline that has passed, the most telling first."""
        if self.head_at == math.inf:
            if now - self.sent_at > self.head:
                return Deadline.HEAD
        elif not self.is_paused and now - self.last_byte_at > self.idle:
            return Deadline.IDLE
        elif not self.is_first_event_seen and now - self.head_at > self.first_event:
            return Deadline.FIRST_EVENT
        return Deadline.TOTAL if now - self.started_at > self.total else None

    def pause(self) -> None:
        """The client takes nothing, so Flowise is not read: silence is not its fault."""
        self.is_paused = True

    def resume(self, now: float) -> None:
        """Reading goes on."""
        self.is_paused = False
        self.last_byte_at = now
