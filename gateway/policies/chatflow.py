"""Refuses requests for a chatflow that Flowise does not have: it would answer a stream never, and others with 500."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.config import Route
from gateway.exchange import Exchange
from gateway.flowise.endpoints import Purpose


def chatflow(
    check: Callable[[Route], Awaitable[None] | None],
) -> Callable[[Exchange], Awaitable[None] | None]:
    """`check` raises UnknownRoute, or returns an awaitable that does."""

    def policy(exchange: Exchange) -> Awaitable[None] | None:
        if exchange.route is None or exchange.match is None:
            return None
        if exchange.match.endpoint.purpose is Purpose.ABORT:  # of a run that began before it was deleted
            return None
        return check(exchange.route)

    return policy
