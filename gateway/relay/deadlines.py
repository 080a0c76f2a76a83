"""The deadlines of one call, except `connect`, which is the pool's (pure; every time is in monotonic seconds).

Flowise's own heartbeats count for `idle`. The gateway's never pass here, so they cannot keep a dead stream open.
"""

from __future__ import annotations

import enum
import math

import msgspec


class Deadline(enum.StrEnum):
    """A deadline that passed, by its configuration key."""

    SEND = "send"
    HEAD = "head"
    FIRST_EVENT = "first_event"
    IDLE = "idle"
    TOTAL = "total"

    @property
    def message(self) -> str:
        """What the client is sent."""
        return _MESSAGES[self]


HEAD_IS_LATE = 1.0  # seconds after the request was sent; the head of a stream comes within milliseconds
_MESSAGES = {
    Deadline.SEND: "Flowise took no byte of the request in time.",
    Deadline.HEAD: "Flowise did not begin to answer in time.",
    Deadline.FIRST_EVENT: "Flowise sent no event in time.",
    Deadline.IDLE: "Flowise went silent in the middle of the answer.",
    Deadline.TOTAL: "The answer took longer than is allowed here.",
}


class Deadlines(msgspec.Struct, gc=False):
    """Limits in seconds (infinite: none), and the moments that they are counted from."""

    head: float
    first_event: float
    idle: float
    total: float
    started_at: float
    sent_at: float = math.inf
    head_at: float = math.inf
    last_byte_at: float = math.inf
    send: float = math.inf
    taken: int = 0  # bytes of the request that the system has taken
    taken_at: float = math.inf  # the last time that this has changed, while there are bytes to be taken
    is_first_event_seen: bool = False
    is_paused: bool = False

    def passed(self, now: float) -> Deadline | None:
        """The deadline that has passed; of several the most specific one."""
        if self.head_at == math.inf:
            if now - self.taken_at > self.send:
                return Deadline.SEND
            if now - self.sent_at > self.head:
                return Deadline.HEAD
        elif not self.is_paused and now - self.last_byte_at > self.idle:
            return Deadline.IDLE
        elif not self.is_first_event_seen and now - self.head_at > self.first_event:
            return Deadline.FIRST_EVENT
        return Deadline.TOTAL if now - self.started_at > self.total else None

    @property
    def next(self) -> float:
        """None of an answer that has begun passes before that moment: each of `passed` after the head is here."""
        return min(
            math.inf if self.is_paused else self.last_byte_at + self.idle,
            math.inf if self.is_first_event_seen else self.head_at + self.first_event,
            self.started_at + self.total,
        )

    def is_head_late(self, now: float) -> bool:
        """Never, if the head comes together with the whole reply."""
        return self.head_at == math.inf != self.head and now - self.sent_at >= HEAD_IS_LATE

    def sending(self, taken: int, waiting: int, now: float) -> None:
        """How many bytes of the request were taken, and how many wait to be; `send` counts while some wait."""
        if not waiting:
            self.taken_at = math.inf
        elif taken != self.taken or self.taken_at == math.inf:
            self.taken, self.taken_at = taken, now

    def pause(self) -> None:
        """Reading is paused for a slow client, so `idle` stops."""
        self.is_paused = True

    def resume(self, now: float) -> None:
        self.is_paused = False
        self.last_byte_at = now
