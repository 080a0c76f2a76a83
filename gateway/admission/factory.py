"""Limits as the configuration wants them: the one place that chooses between memory and a shared store."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from random import SystemRandom

from gateway.admission.gcra import SECOND
from gateway.admission.limiter import LEASE, Limiter
from gateway.admission.locks import ConversationLocks
from gateway.admission.memory import MemoryStore
from gateway.admission.redis.client import Spawn
from gateway.admission.store import StoreListener
from gateway.config import LimitSettings

_NO_PACKAGE = (
    "limits.store needs the package redis, which is not installed: pip install 'flowise-gateway[redis]'"
)


@dataclass(frozen=True, slots=True)
class Limiting:
    """What counts and what queues; `limiter.start`, `limiter.tick` and `limiter.close` see to both."""

    limiter: Limiter
    turns: ConversationLocks


def limits(settings: LimitSettings, spawn: Spawn, reports: StoreListener, ca: str | None = None) -> Limiting:
    """The limits of this process; nothing is opened yet.

    Args:
        settings: of the configuration.
        spawn: begins a background task, as `Tasks.start` does.
        reports: who is told of the store's state.
        ca: a file with the certificates of a private authority, for `rediss`.

    Raises:
        ValueError: the store's URL cannot be read, or the package for it is missing; says what would be right.
    """
    name = secrets.token_hex(8)
    if not settings.store.is_shared:
        return Limiting(Limiter(MemoryStore(int(LEASE * SECOND)), name), ConversationLocks())
    return _shared(settings, spawn, reports, name, ca)


def _shared(
    settings: LimitSettings, spawn: Spawn, reports: StoreListener, name: str, ca: str | None
) -> Limiting:
    try:
        from gateway.admission.redis.connection import RedisConnection  # noqa: PLC0415 - an optional package, and large
        from gateway.admission.redis.limiter import SharedLimiter, SharedSettings  # noqa: PLC0415 - needs it
        from gateway.admission.redis.locks import RedisConversationLocks  # noqa: PLC0415 - needs it
    except ModuleNotFoundError:
        raise ValueError(_NO_PACKAGE) from None

    chance = SystemRandom().random
    sharing = SharedSettings(name, is_closed=settings.when_store_fails == "closed")
    limiter = SharedLimiter(RedisConnection(settings.store.url, ca), sharing, spawn, reports, chance)
    turns = RedisConversationLocks(limiter.link, limiter.backlog, name, chance)
    limiter.also(turns)
    return Limiting(limiter, turns)
