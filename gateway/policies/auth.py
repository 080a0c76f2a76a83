"""Authenticates the caller by at most one credential, from a header or the base path, and checks it for the route.

A credential of this gateway must be valid wherever it is sent, also on public routes. One of somebody else is refused,
ignored, or passed to Flowise, as the route says. No part of any is logged or returned.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import hdrs
from msgspec import Struct

from gateway.auth.authenticator import Authenticator, kind_of
from gateway.auth.caller import ANONYMOUS, Caller, caller_of_flowise_key, check_permission
from gateway.auth.credentials import (
    NOT_FLOWISES_EITHER,
    NOT_OURS,
    SentCredentials,
    looks_like_jwt,
    read_credentials,
)
from gateway.config import Route
from gateway.errors import AuthUnavailable, Forbidden, GatewayError, Unauthenticated
from gateway.exchange import Exchange
from gateway.flowise.endpoints import Access
from gateway.telemetry.metrics import Metrics

API_KEY_HEADER = "X-API-Key"


class _Rules(Struct, frozen=True):
    """What happens to foreign credentials."""

    ignores_foreign: bool
    takes_flowise_keys: bool
    refuses_all_foreign: bool

    @classmethod
    def of(cls, *, ignores_foreign: bool, takes_flowise_keys: bool) -> _Rules:
        return cls(ignores_foreign, takes_flowise_keys, not (ignores_foreign or takes_flowise_keys))


def auth(
    authenticator: Authenticator, metrics: Metrics, routes: Sequence[Route]
) -> Callable[[Exchange], Awaitable[None] | None]:
    """The policy, which returns an awaitable only for a credential that is not known yet."""
    return _Authentication(authenticator, metrics, routes).policy


class _Authentication:
    def __init__(self, authenticator: Authenticator, metrics: Metrics, routes: Sequence[Route]) -> None:
        self._authenticator = authenticator
        self._metrics = metrics
        self._has_public_route = any("anonymous" in route.auth for route in routes)
        self._by_route, self._anywhere = _rules_of(routes)

    def policy(self, exchange: Exchange) -> Awaitable[None] | None:
        try:
            caller = self._caller(exchange)
            if isinstance(caller, str):
                return self._authenticate(exchange, caller)
            self._enter(exchange, caller)
        except GatewayError as error:
            self._count(exchange, _result(error, exchange.auth))
            raise
        return None

    async def _authenticate(self, exchange: Exchange, credential: str) -> None:
        try:
            self._enter(exchange, await self._authenticator.authenticate(credential))
        except GatewayError as error:
            self._count(exchange, _result(error, exchange.auth))
            raise

    def _enter(self, exchange: Exchange, caller: Caller) -> None:
        exchange.caller = caller
        _check(exchange, caller, has_public_route=self._has_public_route)
        self._count(exchange, "ok")

    def _count(self, exchange: Exchange, result: str) -> None:
        self._metrics.cell[self._metrics.auth, exchange.auth, result][0] += 1

    def _caller(self, exchange: Exchange) -> Caller | str:
        """The caller; or the credential, if its caller is not known yet."""
        headers = exchange.request.headers
        if not exchange.path_token and hdrs.AUTHORIZATION not in headers and API_KEY_HEADER not in headers:
            exchange.auth = ANONYMOUS.method  # as below, without looking for what was not sent
            return ANONYMOUS
        exchange.auth = "unknown"
        route = exchange.route
        rules = _without_route(exchange, self._anywhere) if route is None else self._by_route[route.name]
        is_our_jwt = looks_like_jwt if rules.refuses_all_foreign else self._authenticator.is_of_an_issuer
        sent = _sent(exchange, is_our_jwt)
        if sent.foreign and (caller := _of_foreign(exchange, sent, rules)) is not None:
            return caller
        credential = sent.only()
        if credential is None:
            exchange.auth = ANONYMOUS.method
            return ANONYMOUS
        exchange.auth = kind_of(credential)
        if exchange.path_token and exchange.auth != "session":
            raise Unauthenticated(
                "Only session tokens are allowed in the base path /t/; send others as `Authorization: Bearer …`."
            )
        return self._authenticator.authenticate_cached(credential) or credential


def _sent(exchange: Exchange, is_our_jwt: Callable[[str], bool]) -> SentCredentials:
    headers = exchange.request.headers
    authorizations, keys = headers.getall(hdrs.AUTHORIZATION, []), headers.getall(API_KEY_HEADER, [])
    return read_credentials(authorizations, keys, exchange.path_token, is_our_jwt)


def _rules_of(routes: Sequence[Route]) -> tuple[Mapping[str, _Rules], _Rules]:
    """By the name of the route; and what any of them does."""
    by_route = {
        route.name: _Rules.of(
            ignores_foreign=route.ignores_foreign, takes_flowise_keys=route.takes_flowise_keys
        )
        for route in routes
    }
    anywhere = _Rules.of(
        ignores_foreign=any(rules.ignores_foreign for rules in by_route.values()),
        takes_flowise_keys=any(rules.takes_flowise_keys for rules in by_route.values()),
    )
    return by_route, anywhere


def _without_route(exchange: Exchange, anywhere: _Rules) -> _Rules:
    """What any route does, while the route is not known."""
    access = Access.ANYONE if exchange.match is None else exchange.match.endpoint.access
    return _Rules.of(
        ignores_foreign=anywhere.ignores_foreign,
        takes_flowise_keys=anywhere.takes_flowise_keys and access is Access.ANY_ROUTE,
    )


def _of_foreign(exchange: Exchange, sent: SentCredentials, rules: _Rules) -> Caller | None:
    """The caller of a key of Flowise; None: the foreign credentials are ignored. Raises where they are refused."""
    if rules.takes_flowise_keys and sent.flowise_key and not sent.own:
        exchange.auth, exchange.flowise_key = "upstream", sent.flowise_key
        return caller_of_flowise_key(sent.flowise_key)
    if not rules.ignores_foreign:
        sent.check_all_own(NOT_FLOWISES_EITHER if rules.takes_flowise_keys else NOT_OURS)
    exchange.has_ignored_credential = True
    return None


def check_route(exchange: Exchange, route: Route) -> None:
    """Check the caller again, once the body has named the route.

    Raises:
        Unauthenticated: the route refuses the foreign credential, or requires one.
        Forbidden: the credential does not allow this route.
    """
    if exchange.flowise_key and not route.takes_flowise_keys:
        exchange.caller, exchange.auth, exchange.flowise_key = ANONYMOUS, ANONYMOUS.method, ""
        exchange.has_ignored_credential = True
    if exchange.has_ignored_credential and not route.ignores_foreign:
        raise Unauthenticated(NOT_OURS)
    check_permission(route, exchange.caller)


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


def _result(error: GatewayError, method: str) -> str:
    if isinstance(error, Forbidden):
        return "forbidden"
    if isinstance(error, AuthUnavailable):
        return "unavailable"
    return "missing" if method == ANONYMOUS.method else "invalid"
