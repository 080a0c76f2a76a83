"""What a limit store decides and how it fails, how long one request may wait for it, and the listener for its state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, NamedTuple

from msgspec import Struct

STORE_TIMEOUT = 0.1  # seconds that one request may wait for the store, over all its calls
MIN_TIMEOUT = 0.02  # seconds that each call gets at least, as long as no earlier one has failed

StoreFailure = Literal[
    "timeout", "connection", "auth", "reply", "away", "overflow", "dropped", "key",
    # of an attempt to connect; these are causes (`gateway.causes`)
    "refused", "dns", "tls_name", "tls_expired", "tls_authority", "tls", "descriptors", "unreachable",
]  # fmt: skip
NOT_APPLIED: tuple[StoreFailure, ...] = ("away", "overflow", "key")  # the store has certainly changed nothing

Spawn = Callable[
    [Coroutine[Any, Any, None], str], asyncio.Task[None]
]  # as `Tasks.start`: the work, and its name


class StoreUse(NamedTuple):
    """How the shared store is used, as configured; all of it may change while the process runs.

    Attributes:
        url: the store's, which may hold a password.
        ca: a file with certificates of a private authority, for `rediss`.
        is_closed: without the store, no request passes.
    """

    url: str
    ca: str | None = None
    is_closed: bool = False


class Decision(NamedTuple):
    """Whether all charges of a request were made, or none. `used`: of each bucket, afterwards."""

    is_allowed: bool
    used: list[int]


class StoreError(Exception):
    """A call to the shared store failed; it may have been executed. The text is `kind`, nothing of the server.

    `reason`: the first word of an error reply of the server, like READONLY, or the kind.
    """

    def __init__(self, kind: StoreFailure, reason: str = "") -> None:
        super().__init__(kind)
        self.kind: StoreFailure = kind
        self.reason = reason or kind


class StoreBudget(Struct):
    """The time that one request may still wait for the store, in seconds."""

    left: float = STORE_TIMEOUT

    def spend(self, seconds: float) -> None:
        """Subtract the time of a call that was answered."""
        self.left = max(MIN_TIMEOUT, self.left - seconds)

    def exhaust(self) -> None:
        """After a failed call this request does not wait again."""
        self.left = 0.0


class Losses(Struct):
    """What open runs of this process had lost in the store, as their renewals found out.

    Attributes:
        slots: leases that had ended, or were deleted; taken again, even above the limit.
        locks: conversation locks that had; taken again.
        conversations: conversation locks that another process holds now.
    """

    slots: int = 0
    locks: int = 0
    conversations: int = 0


class StoreListener(Struct, frozen=True):
    """Callbacks for the state of the shared store.

    Attributes:
        failed: for each call that failed or could not be sent, with its kind.
        changed: whether the store is up, and if not, the reason; once at the start, then on each change.
        took: for each answered call of a request, with its seconds.
        lost: what was lost since the last report; called by the timer.
        conversation_lost: another process holds a conversation lock of this one; with the function that releases it.
        key_replaced: a key had a value of a wrong type and was deleted; with that type.
        key_broken: one of these keys has, and cannot be deleted; once for each.
    """

    failed: Callable[[StoreFailure], None] = lambda _: None
    changed: Callable[[bool, str], None] = lambda _is_up, _why: None
    took: Callable[[float], None] = lambda _: None
    lost: Callable[[Losses], None] = lambda _: None
    conversation_lost: Callable[[Callable[[], None]], None] = lambda _: None
    key_replaced: Callable[[str, str], None] = lambda _key, _type: None
    key_broken: Callable[[Sequence[str]], None] = lambda _: None
