"""Refuses what `context` found to be no endpoint or no chatflow. It stands behind `cors`, so browsers can read why."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from gateway.auth import key_format, session_tokens
from gateway.config import Route
from gateway.errors import BadRequest, GatewayError, UnknownRoute
from gateway.exchange import SERVER, UNDER_TOKEN, Exchange, Timings
from gateway.flowise.endpoints import Match, find
from gateway.http.forwarded import Network, client_address
from gateway.http.target import BASE, split_base


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


_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_CREDENTIALS = (key_format.PREFIX, session_tokens.PREFIX)
_VERSIONS = (HttpVersion10, HttpVersion11)


def context(
    routes: Mapping[str, Route],
    trusted: Sequence[Network],
    walk: Callable[[Exchange], Awaitable[web.StreamResponse]],
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """The server's handler: makes an exchange of each request and sends it on its walk."""

    def handle(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        exchange = begin(request, trusted)
        try:
            check_version(request)
            exchange.path_token, target = split_base(request.raw_path)
            exchange.match = find(target)
            exchange.route = routes.get(exchange.match.named_flow or "")
            route_of(exchange.match, routes)
            if request.method != hdrs.METH_OPTIONS:
                exchange.match = exchange.match.check(request.method)
                exchange.route = route_of(exchange.match, routes)
        except GatewayError as error:
            exchange.routing_error = error
        return walk(exchange)

    return handle


def begin(request: web.BaseRequest, trusted: Sequence[Network]) -> Exchange:
    """An exchange that knows who asks and when, and nothing of what for."""
    headers = request.headers
    given = headers.get("X-Request-ID", "")
    is_one = _REQUEST_ID.fullmatch(given) and not given.startswith(
        _CREDENTIALS
    )  # which it would be logged as
    request_id = given if is_one else uuid.uuid4().hex
    parent = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    client = client_address(
        getattr(request.protocol, "address", ""),  # the listener's: kept when the client is gone at once
        headers.getall("X-Forwarded-For", []),
        headers.getall("Forwarded", []),
        trusted,
    )
    return Exchange(
        request=request,
        request_id=request_id,
        client=client,
        timings=Timings(received=monotonic()),
        trace_id=parent[1] if parent else "",
        response_headers={"X-Request-ID": request_id, "Server": SERVER, **_privacy(request.raw_path)},
    )


def _privacy(raw_target: str) -> Mapping[str, str]:
    return UNDER_TOKEN if raw_target.startswith(BASE) else {}


def check_version(request: web.BaseRequest) -> None:
    """HTTP/0.9 is answered by aiohttp, too, which has no header fields, so nothing could be said of its body.

    Raises:
        BadRequest: neither HTTP/1.0 nor HTTP/1.1.
    """
    if request.version not in _VERSIONS:
        raise BadRequest("This version of HTTP is not served; the request line must end in HTTP/1.1.")


def route_of(found: Match, routes: Mapping[str, Route]) -> Route | None:
    """The route that the path or the query names; None where the body will tell, or where none is needed.

    Raises:
        UnknownRoute: a flow is named that the configuration does not have.
    """
    return None if found.flow is None else route_named(found.flow, routes)


async def routing(exchange: Exchange) -> None:
    """The room."""
    if exchange.routing_error is not None:
        raise exchange.routing_error
