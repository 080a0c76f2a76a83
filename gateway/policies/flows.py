"""Which route a client means: routes under their names and under their chatflow ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.config import Route
from gateway.errors import UnknownRoute


def routes_by_flow(routes: Sequence[Route]) -> dict[str, Route]:
    """Each route under its name and under its chatflow id."""
    return {key: route for route in routes for key in (route.name, route.chatflow)}


def route_named(flow: str, routes: Mapping[str, Route]) -> Route:
    """The route of this name or chatflow id.

    Raises:
        UnknownRoute: there is none.
    """
    if (route := routes.get(flow)) is None:
        raise UnknownRoute(
            "No such chatflow here. The path must name a route of this gateway, or its chatflow id."
        )
    return route
