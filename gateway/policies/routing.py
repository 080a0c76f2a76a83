"""Refuses what `context` found to be no endpoint or no chatflow. It stands behind `cors`, so browsers can read why."""

from __future__ import annotations

from gateway.exchange import Exchange


async def routing(exchange: Exchange) -> None:
    """The room."""
    if exchange.misrouted is not None:
        raise exchange.misrouted
