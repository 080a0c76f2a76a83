"""Authenticates the caller by at most one credential, from a header or the base path, and checks it for the route.

A credential must be valid wherever it is sent, also on public routes. No part of it is logged or returned.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import hdrs, web

from gateway.auth.authenticator import Authenticator, kind_of
from gateway.auth.caller import ANONYMOUS, Caller, check_permission
from gateway.config import Route
from gateway.errors import AuthUnavailable, BadRequest, Forbidden, GatewayError, Unauthenticated
from gateway.exchange import Exchange
from gateway.flowise.endpoints import Access
from gateway.telemetry.metrics import Metrics

API_KEY_HEADER = "X-API-Key"
_BEARER = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)
_VISIBLE = re.compile(r"[!-~]+")


def auth(
    authenticator: Authenticator, metrics: Metrics, routes: Sequence[Route]
) -> Callable[[Exchange], Awaitable[None]]:
    has_public_route = any("anonymous" in route.auth for route in routes)

    async def policy(exchange: Exchange) -> None:
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
                "Only session tokens are allowed in the base path /t/; send others as `Authorization: Bearer …`."
            )
        return authenticator.authenticate_cached(credential) or await authenticator.authenticate(credential)

    return policy


def _check(exchange: Exchange, caller: Caller, *, has_public_route: bool) -> None:
    """Check that this caller may use the route, or the endpoint while no route is known."""
    access = Access.ANYONE if exchange.match is None else exchange.match.endpoint.access
    if access is Access.ANYONE:
        return
    if exchange.route is not None:
        check_permission(exchange.route, caller)
    elif access is Access.API_KEY and caller.method not in ("api_key", "anonymous"):
        raise Forbidden("Session tokens are issued only for an API key; send one.")
    elif caller is ANONYMOUS and not (has_public_route and access is Access.ANY_ROUTE):
        raise Unauthenticated("This endpoint requires a credential, sent as `Authorization: Bearer …`.")


def presented(request: web.BaseRequest, path_token: str) -> str | None:
    """The one credential of a request; None if there is none.

    Raises:
        BadRequest: there are several, which could name several callers.
        Unauthenticated: it is malformed.
    """
    bearers = request.headers.getall(hdrs.AUTHORIZATION, [])
    keys = request.headers.getall(API_KEY_HEADER, [])
    if not (bearers or keys or path_token):
        return None
    if len(bearers) + len(keys) + bool(path_token) > 1:
        raise BadRequest("The request has more than one credential; send one.")
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
    if isinstance(error, AuthUnavailable):
        return "unavailable"
    return "missing" if method == ANONYMOUS.method else "invalid"
