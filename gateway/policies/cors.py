"""Which web pages may call (Fetch standard, CORS): checks Origin, answers preflights, names readable headers.

Flowise's own CORS headers never pass, so there is one answer, on errors too. A route without `cors` checks no
Origin and sends no header. Where no route is known, `defaults.cors` decides.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import hdrs, web

from gateway.config import CorsSettings, Route
from gateway.errors import Forbidden
from gateway.exchange import Exchange
from gateway.flowise.outcome import Outcome

EXPOSED = "X-Request-ID, RateLimit, RateLimit-Policy, Retry-After"


def check_origin(exchange: Exchange, settings: CorsSettings | None, *, may_be_unlisted: bool = False) -> None:
    """Write the headers of an allowed Origin, and take back those of an earlier check; none is needed where none came.

    Raises:
        Forbidden: the Origin is not listed, and must be.
    """
    for name in (hdrs.ACCESS_CONTROL_ALLOW_ORIGIN, hdrs.ACCESS_CONTROL_EXPOSE_HEADERS, hdrs.VARY):
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
        raise Forbidden("This Origin may not call here. The route's `cors.origins` must list it.")
    exchange.response_headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = allowed
    exchange.response_headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED


ALLOWED_HEADERS = "Authorization, Content-Type, X-API-Key, X-Request-ID, traceparent, tracestate"
MAX_AGE = "600"
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")


def cors(
    default: CorsSettings | None, routes: Sequence[Route]
) -> Callable[[Exchange], Awaitable[web.StreamResponse | None]]:
    """The room. A lead names its route in its body: until that is read, any page of any route may come."""
    known = [settings for settings in (default, *(route.cors for route in routes)) if settings is not None]
    listed = sorted({origin for settings in known for origin in settings.origins})
    of_leads = CorsSettings(origins=tuple(listed)) if listed else None
    is_any_open = any(route.cors is None for route in routes)

    async def room(exchange: Exchange) -> web.StreamResponse | None:
        settings = default if exchange.route is None else exchange.route.cors
        if exchange.endpoint == "leads":
            settings = of_leads
        check_origin(exchange, settings, may_be_unlisted=exchange.endpoint == "leads" and is_any_open)
        if exchange.request.method == hdrs.METH_OPTIONS and exchange.routing_error is None:
            return _preflight(exchange, settings)
        return None

    return room


def _preflight(exchange: Exchange, settings: CorsSettings | None) -> web.Response:
    headers = dict(exchange.response_headers)
    methods = ""
    if exchange.match is not None:
        methods = ", ".join(exchange.match.endpoint.methods)
        headers[hdrs.ALLOW] = exchange.match.endpoint.allow
    if settings is not None and hdrs.ACCESS_CONTROL_ALLOW_ORIGIN in headers:
        asked = exchange.request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
        # Unknown headers are let through the browser and dropped here: pages add their own (`onRequest`).
        names = f"{ALLOWED_HEADERS}, {asked}" if _HEADER_NAMES.fullmatch(asked) else ALLOWED_HEADERS
        headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = methods
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = names
        headers[hdrs.ACCESS_CONTROL_MAX_AGE] = MAX_AGE
        headers[hdrs.VARY] = "Origin, Access-Control-Request-Headers"
    exchange.status, exchange.outcome = 204, Outcome.OK
    return web.Response(status=204, headers=headers)
