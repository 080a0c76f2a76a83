"""Mints a session token: a backend with an API key asks for one that a browser user may carry for a while.

A token can only narrow what its key may do, and ends with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from gateway.auth.caller import LONGEST_NAME, session_name
from gateway.auth.session_tokens import SessionGrant, SessionTokens
from gateway.config import Route, SessionTokenSettings
from gateway.config.values import format_duration, parse_duration
from gateway.errors import BadRequest, Forbidden
from gateway.exchange import Exchange
from gateway.flowise.checks import bound_id
from gateway.flowise.raw_json import JsonObject, read_document, shown, text_of
from gateway.pipeline import json_response

_FIELDS = ("caller", "routes", "ttl")


class IssueSessionToken:
    """The handler. `routes`: by name and by chatflow id; `now`: seconds since the epoch."""

    def __init__(
        self,
        tokens: SessionTokens,
        settings: SessionTokenSettings,
        routes: Mapping[str, Route],
        now: Callable[[], float],
    ) -> None:
        self._tokens = tokens
        self._settings = settings
        self._routes = routes
        self._now = now

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        """Answer one request."""
        caller = exchange.caller
        asked = _read(exchange.content)
        user = _user(asked, caller.key_name)
        routes = self._narrowed(_route_names(asked), caller.routes)
        now = int(self._now())
        expires_at = now + int(self._ttl(asked))
        grant = SessionGrant(caller.key_id, user, routes, expires_at=expires_at, issued_at=now)
        told = {"token": self._tokens.issue(grant), "expires_at": datetime.fromtimestamp(expires_at, UTC)}
        return json_response(told)

    def _narrowed(self, asked: list[str] | None, allowed: frozenset[str] | None) -> frozenset[str] | None:
        if asked is None:
            return allowed
        names = set()
        for flow in asked:
            route = self._routes.get(flow)
            if route is None:
                raise BadRequest(
                    f'routes: there is no route "{shown(flow)}" here; name routes of this gateway'
                )
            if allowed is not None and route.name not in allowed:
                raise Forbidden(f'routes: the key itself may not use the route "{shown(flow)}".')
            names.add(route.name)
        return frozenset(names)

    def _ttl(self, asked: JsonObject) -> float:
        if (raw := asked.raw("ttl")) is None:
            return self._settings.ttl
        try:
            seconds = parse_duration(text_of(raw) or "")
        except ValueError as error:
            raise BadRequest(f"ttl {error}") from None
        longest = format_duration(self._settings.max_ttl)
        if not 1 <= seconds <= self._settings.max_ttl:
            raise BadRequest(f"ttl must be from 1s to {longest}, the longest that is allowed here")
        return seconds


def _read(content: bytes) -> JsonObject:
    asked = read_document(content)
    if odd := [name for name in asked.members if name not in _FIELDS]:
        raise BadRequest(f"{shown(odd[0])} is not a field of this request; it takes {', '.join(_FIELDS)}")
    return asked


def _user(asked: JsonObject, key_name: str) -> str:
    raw = asked.raw("caller")
    user = None if raw is None else text_of(raw)
    if user is None:
        raise BadRequest("caller must be a string: your own name for the user of this token")
    bound_id(user, "caller")
    if len(session_name(key_name, user)) > LONGEST_NAME:
        raise BadRequest(f"caller is too long; session:KEY/CALLER may have {LONGEST_NAME} characters in all")
    return user


def _route_names(asked: JsonObject) -> list[str] | None:
    if (raw := asked.raw("routes")) is None:
        return None
    try:
        names = msgspec.json.decode(raw, type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("routes must be a list of names of routes") from None
    if not names:
        raise BadRequest(
            "routes is empty; name at least one route, or leave it out for all that the key may use"
        )
    return names
