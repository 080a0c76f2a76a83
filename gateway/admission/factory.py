"""Creates the limiter and the conversation locks; the one place that chooses between memory and a shared store."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from random import SystemRandom

from gateway.admission.gcra import SECOND
from gateway.admission.limiter import LEASE, Limiter
from gateway.admission.locks import ConversationLocks
from gateway.admission.memory import MemoryStore
from gateway.admission.store import Spawn, StoreListener
from gateway.config import LimitSettings

_NO_PACKAGE = (
    "limits.store needs the package redis, which is not installed: pip install 'flowise-gateway[redis]'"
)


@dataclass(frozen=True, slots=True)
class Limiting:
    """The limiter and the locks of one process; `start`, `tick` and `close` of the limiter serve both."""

    limiter: Limiter
    locks: ConversationLocks


def create_limiter(
    settings: LimitSettings, spawn: Spawn, listener: StoreListener, ca: str | None = None
) -> Limiting:
    """Create both as configured; nothing is opened yet.

    Args:
        settings: of the configuration.
        spawn: starts a background task, as `Tasks.start` does.
        listener: notified of the store's state.
        ca: a file with the certificates of a private authority, for `rediss`.

    Raises:
        ValueError: the store's URL cannot be read, or the redis package is missing; the message says what to do.
    """
    name = secrets.token_hex(8)
    if not settings.store.is_shared:
        return Limiting(Limiter(MemoryStore(int(LEASE * SECOND)), name), ConversationLocks())
    return _shared(settings, spawn, listener, name, ca)


def _shared(
    settings: LimitSettings, spawn: Spawn, listener: StoreListener, name: str, ca: str | None
) -> Limiting:
    try:
        from gateway.admission.redis.connection import RedisConnection  # noqa: PLC0415 - an optional package, and large
        from gateway.admission.redis.limiter import SharedLimiter, SharedSettings  # noqa: PLC0415 - needs it
        from gateway.admission.redis.locks import RedisConversationLocks  # noqa: PLC0415 - needs it
    except ModuleNotFoundError:
        raise ValueError(_NO_PACKAGE) from None

    random = SystemRandom().random
    shared = SharedSettings(name, is_closed=settings.when_store_fails == "closed")
    limiter = SharedLimiter(RedisConnection(settings.store.url, ca), shared, spawn, listener, random)
    locks = RedisConversationLocks(limiter.client, limiter.outbox, name, random)
    limiter.attach(locks)
    return Limiting(limiter, locks)
