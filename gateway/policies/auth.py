"""Who is calling: one credential at most, from a header or the base path, and whether it is for this route.

A credential that is presented must be valid, on public routes too, and where none is needed. What a credential is
worth is known in `identity/`; nothing of it is logged or told.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import hdrs, web

from gateway.auth.authenticator import Authenticator, kind_of
from gateway.auth.caller import ANONYMOUS, Caller, check_permission
from gateway.config import Route
from gateway.errors import BadRequest, Forbidden, GatewayError, Unauthenticated
from gateway.exchange import Exchange
from gateway.flowise.endpoints import Access
from gateway.telemetry.metrics import Metrics

API_KEY_HEADER = "X-API-Key"
_BEARER = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)
_VISIBLE = re.compile(r"[!-~]+")


def auth(
    authenticator: Authenticator, metrics: Metrics, routes: Sequence[Route]
) -> Callable[[Exchange], Awaitable[None]]:
    """The room."""
    has_public_route = any("anonymous" in route.auth for route in routes)

    async def room(exchange: Exchange) -> None:
        try:
            exchange.caller = await _caller(exchange)
            _check(exchange, exchange.caller, has_public_route=has_public_route)
        except GatewayError as error:
            metrics.auth.labels(exchange.auth, _result(error, exchange.auth)).inc()
            raise
        metrics.auth.labels(exchange.auth, "ok").inc()

    async def _caller(exchange: Exchange) -> Caller:
        exchange.auth = "unknown"
        credential = presented(exchange.request, exchange.path_token)
        if credential is None:
            exchange.auth = ANONYMOUS.method
            return ANONYMOUS
        exchange.auth = kind_of(credential)
        if exchange.path_token and exchange.auth != "session":
            raise Unauthenticated(
                "Only a session token may stand in the base path /t/; send others as `Authorization: Bearer …`."
            )
        return authenticator.at_once(credential) or await authenticator.asked(credential)

    return room


def _check(exchange: Exchange, caller: Caller, *, has_public_route: bool) -> None:
    """Whether this caller may ask this; where the route is not known yet, whether anybody may."""
    access = Access.ANYONE if exchange.match is None else exchange.match.endpoint.access
    if access is Access.ANYONE:
        return
    if exchange.route is not None:
        check_permission(exchange.route, caller)
    elif access is Access.API_KEY and caller.method not in ("api_key", "anonymous"):
        raise Forbidden("Only an API key may mint session tokens.")
    elif caller is ANONYMOUS and not (has_public_route and access is Access.ANY_ROUTE):
        raise Unauthenticated("This needs a credential, sent as `Authorization: Bearer …`.")


def presented(request: web.BaseRequest, path_token: str) -> str | None:
    """The one credential of a request; None if there is none.

    Raises:
        BadRequest: there are two, and they could name two callers.
        Unauthenticated: it is written in a way that cannot be one.
    """
    bearers = request.headers.getall(hdrs.AUTHORIZATION, [])
    keys = request.headers.getall(API_KEY_HEADER, [])
    if not (bearers or keys or path_token):
        return None
    if len(bearers) + len(keys) + bool(path_token) > 1:
        raise BadRequest("The request carries two credentials; send one.")
    if path_token:
        return path_token
    if keys:
        return keys[0] if _VISIBLE.fullmatch(keys[0]) else _unreadable()
    bearer = _BEARER.fullmatch(bearers[0])
    return bearer[1] if bearer else _unreadable()


def _unreadable() -> str:
    raise Unauthenticated("The credential cannot be read; send `Authorization: Bearer …` or `X-API-Key: …`.")


def _result(error: GatewayError, method: str) -> str:
    if isinstance(error, Forbidden):
        return "forbidden"
    return "missing" if method == ANONYMOUS.method else "invalid"
