"""Finds the route of a change of feedback: the one over which the same caller was given its id.

The id of a feedback is all that Flowise asks for, and anyone may send it. So a change passes only if the gateway has
given the id to this caller, within a day; whether the id exists at all is not said.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.admission.owners import Owners
from gateway.admission.quotas import digest
from gateway.admission.store import StoreBudget
from gateway.errors import UnknownRoute
from gateway.exchange import Exchange
from gateway.flowise.endpoints import FlowIn, Match

NOT_GIVEN = "You have given no feedback with this id here in the last 24 hours. POST it first."


def feedback(
    owners: Owners, enter_route: Callable[[Exchange, str], None]
) -> Callable[[Exchange], Awaitable[None] | None]:
    """`enter_route` sets and checks the route of an exchange, given by its name."""

    def policy(exchange: Exchange) -> Awaitable[None] | None:
        found = exchange.match
        if found is None or found.endpoint.flow_in is not FlowIn.FEEDBACK:
            return None
        return look_up(exchange, found)

    async def look_up(exchange: Exchange, found: Match) -> None:
        exchange.store_budget = exchange.store_budget or StoreBudget()
        owner = await owners.find(found.params["feedbackId"], exchange.store_budget)
        route, _, caller = (owner or "").partition(" ")
        if owner is None or caller != digest(exchange.caller.name):
            raise UnknownRoute(NOT_GIVEN)
        enter_route(exchange, route)

    return policy


async def remember(owners: Owners, exchange: Exchange, name: str) -> None:
    """Remember that the caller of this exchange was given a feedback with this id over its route."""
    exchange.store_budget = exchange.store_budget or StoreBudget()
    owner = f"{exchange.route_name} {digest(exchange.caller.name)}"
    await owners.remember(name, owner, exchange.store_budget)
