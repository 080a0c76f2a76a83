"""Creates the limiter and the conversation locks; the one place that chooses between memory and a shared store."""

from __future__ import annotations

import secrets
from random import SystemRandom
from typing import TYPE_CHECKING

from msgspec import Struct

from gateway.admission.gcra import SECOND
from gateway.admission.limiter import LEASE, Limiter
from gateway.admission.locks import ConversationLocks
from gateway.admission.memory import MemoryStore
from gateway.admission.owners import Owners
from gateway.admission.store import Spawn, StoreListener, StoreUse
from gateway.config import LimitSettings

if TYPE_CHECKING:
    from gateway.admission.redis.connection import RedisConnection

_NO_PACKAGE = "limits.store needs the package redis, which is not installed: pip install 'redis>=8.1'."


class Limiting(Struct, frozen=True):
    """The limiter, locks and owners of one process; `start`, `tick` and `close` of the limiter serve all of them."""

    limiter: Limiter
    locks: ConversationLocks
    owners: Owners


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
        return Limiting(Limiter(MemoryStore(int(LEASE * SECOND)), name), ConversationLocks(), Owners())
    return _shared(settings, spawn, listener, name, ca)


def store_use(settings: LimitSettings) -> StoreUse:
    """How the store is used, as configured."""
    ca = None if settings.tls.ca is None else str(settings.tls.ca)
    return StoreUse(settings.store.url, ca, settings.when_store_fails == "closed")


def check_store(settings: LimitSettings) -> None:
    """Find out, without connecting, whether this process could use the store; for those that start others.

    Raises:
        ValueError: as for `create_limiter`.
    """
    if settings.store.is_shared:
        _connection(settings, None)


def _shared(
    settings: LimitSettings, spawn: Spawn, listener: StoreListener, name: str, ca: str | None
) -> Limiting:
    connection = _connection(settings, ca)
    from gateway.admission.redis.limiter import SharedLimiter, SharedSettings  # noqa: PLC0415 - not without a store
    from gateway.admission.redis.locks import RedisConversationLocks  # noqa: PLC0415 - not without a store
    from gateway.admission.redis.owners import SharedOwners  # noqa: PLC0415 - not without a store

    random = SystemRandom().random
    shared = SharedSettings(name, is_closed=settings.when_store_fails == "closed")
    limiter = SharedLimiter(connection, shared, spawn, listener, random)
    locks = RedisConversationLocks(limiter.client, limiter.outbox, name, random)
    limiter.attach(locks)
    return Limiting(limiter, locks, SharedOwners(limiter.client, limiter.outbox, listener))


def _connection(settings: LimitSettings, ca: str | None) -> RedisConnection:
    """The connection to a shared store, which is not opened yet."""
    try:
        from gateway.admission.redis.connection import RedisConnection  # noqa: PLC0415 - large, and not without a store
    except ModuleNotFoundError:
        raise ValueError(_NO_PACKAGE) from None
    return RedisConnection(settings.store.url, ca)
