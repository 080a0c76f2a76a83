"""Checks Origin, answers preflights and names the headers that a page may read (Fetch standard, CORS).

Flowise's own CORS headers never pass, so errors and answers carry the same ones. A route without `cors` checks no
Origin and sends no CORS header. `defaults.cors` applies where no route is known; an icon, and an error about an unknown
path or chatflow, can be read by the pages of every route.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from aiohttp import hdrs

from gateway import web
from gateway.config import CorsSettings, Route
from gateway.errors import Forbidden
from gateway.exchange import Exchange
from gateway.flowise.endpoints import FlowIn

ALLOWED_HEADERS = "Authorization, Content-Type, X-API-Key, X-Request-ID, traceparent, tracestate"
EXPOSED_HEADERS = "X-Request-ID, X-Trace-Id, X-Gateway-Status, RateLimit, RateLimit-Policy, Retry-After"
MAX_AGE = "600"  # seconds
NOT_CONFIGURED = (
    "cors_not_configured"  # in the log: the browser blocks the page, and the operator looks for the reason
)
_SET = (
    hdrs.ACCESS_CONTROL_ALLOW_ORIGIN,
    hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS,
    hdrs.ACCESS_CONTROL_EXPOSE_HEADERS,
    hdrs.VARY,
)
_PRIVATE_NETWORK = "Access-Control-Request-Private-Network"  # Private Network Access, of Chromium
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")


def cors(
    default: CorsSettings | None, routes: Sequence[Route]
) -> Callable[[Exchange], web.StreamResponse | None]:
    """Accepts the Origin of any route where the route is not known yet; it is checked again when that is."""
    known = [settings for settings in (default, *(route.cors for route in routes)) if settings is not None]
    known.sort(key=lambda settings: "*" in settings.origins)  # those that name their origins first
    is_any_open = any(route.cors is None for route in routes)

    def policy(exchange: Exchange) -> web.StreamResponse | None:
        settings = default if exchange.route is None else exchange.route.cors
        is_late = exchange.match is not None and exchange.match.endpoint.is_route_late
        is_of_all = exchange.match is not None and exchange.match.endpoint.flow_in is FlowIn.ANY
        is_unknown = exchange.route is None and exchange.routing_error is not None
        if is_late or is_of_all or is_unknown:
            settings = _that_allows(exchange, known)
        may_be_unlisted = is_of_all or (is_late and is_any_open) or (is_unknown and default is None)
        check_origin(exchange, settings, may_be_unlisted=may_be_unlisted)
        if exchange.request.method == hdrs.METH_OPTIONS and exchange.routing_error is None:
            return _preflight(exchange, settings)
        return None

    return policy


def _that_allows(exchange: Exchange, known: Sequence[CorsSettings]) -> CorsSettings | None:
    """The first settings that list the Origin; without one, any."""
    origin = exchange.request.headers.get(hdrs.ORIGIN, "")
    return next((one for one in known if one.allowed(origin)), known[0] if known else None)


def check_origin(exchange: Exchange, settings: CorsSettings | None, *, may_be_unlisted: bool = False) -> None:
    """Replaces the CORS headers of the response by those for the request's Origin; a request without one passes.

    Raises Forbidden if the Origin is not listed, unless `may_be_unlisted`.
    """
    for name in _SET:
        exchange.response_headers.pop(name, None)
    if settings is None:
        return
    exchange.response_headers[hdrs.VARY] = "Origin"
    origins = exchange.request.headers.getall(hdrs.ORIGIN, [])
    if not origins:
        return
    allowed = settings.allowed(origins[0]) if len(origins) == 1 else None
    if allowed is None and may_be_unlisted:
        return
    if allowed is None:
        raise Forbidden("This Origin is not allowed here. The route's `cors.origins` must list it.")
    exchange.response_headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = allowed
    exchange.response_headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED_HEADERS
    if settings.credentials and allowed != "*":
        exchange.response_headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"


def _preflight(exchange: Exchange, settings: CorsSettings | None) -> web.Response:
    headers = exchange.response_headers
    methods = ""
    if exchange.match is not None:
        methods = ", ".join((*exchange.match.endpoint.methods, *exchange.match.endpoint.other_methods))
        headers[hdrs.ALLOW] = exchange.match.endpoint.allow
    if settings is not None and hdrs.ACCESS_CONTROL_ALLOW_ORIGIN in headers:
        asked = exchange.request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
        # Pages add headers of their own (the widget's `onRequest`). They are allowed here and never sent to Flowise.
        names = f"{ALLOWED_HEADERS}, {asked}" if _HEADER_NAMES.fullmatch(asked) else ALLOWED_HEADERS
        headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = methods
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = names
        headers[hdrs.ACCESS_CONTROL_MAX_AGE] = MAX_AGE
        headers[hdrs.VARY] = f"Origin, Access-Control-Request-Headers, {_PRIVATE_NETWORK}"
        if exchange.request.headers.get(_PRIVATE_NETWORK) == "true":
            headers["Access-Control-Allow-Private-Network"] = "true"
    if settings is None and hdrs.ORIGIN in exchange.request.headers:
        exchange.cors = NOT_CONFIGURED
    return web.Response(status=204)
