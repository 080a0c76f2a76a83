"""Whether the page that calls may call: the Origin of a request against what the configuration lists."""

from __future__ import annotations

from aiohttp import hdrs

from gateway.config import CorsSettings
from gateway.errors import Forbidden
from gateway.exchange import Exchange

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
