"""Issues session tokens: a backend requests one with its API key, for a browser user.

A token never allows more than its key, and ends with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec

from gateway import web
from gateway.auth.caller import LONGEST_NAME, session_name
from gateway.auth.claims import LONGEST_CLAIM, claim_text
from gateway.auth.session_tokens import SessionGrant, SessionTokens
from gateway.config import Route, SessionTokenSettings
from gateway.config.values import format_duration, parse_duration
from gateway.errors import BadRequest, Forbidden
from gateway.exchange import Exchange
from gateway.flowise.checks import bound_id
from gateway.flowise.raw_json import JsonObject, read_document, shown, text_of
from gateway.pipeline import json_response

_FIELDS = ("caller", "routes", "ttl", "claims")
MOST_CLAIMS = 16
_LONGEST_RAW = 12 * LONGEST_CLAIM + 2  # bytes: two escapes for each character
_CLAIM_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class IssueSessionToken:
    """`routes`: by name and by chatflow id. `now`: seconds since the epoch."""

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
        caller = exchange.caller
        request = _read(exchange.content)
        user = _user(request, caller.key_name)
        routes = self._narrowed(_route_names(request), caller.routes)
        now = int(self._now())
        expires_at = now + int(self._ttl(request))
        claims = _claims(request)
        grant = SessionGrant(caller.key_id, user, routes, expires_at=expires_at, issued_at=now, claims=claims)
        content = {"token": self._tokens.issue(grant), "expires_at": datetime.fromtimestamp(expires_at, UTC)}
        return json_response(content)

    def _narrowed(self, requested: list[str] | None, allowed: frozenset[str] | None) -> frozenset[str] | None:
        if requested is None:
            return allowed
        names = set()
        for flow in requested:
            route = self._routes.get(flow)
            if route is None:
                raise BadRequest(f'routes: there is no route "{shown(flow)}"; name routes of this gateway.')
            if allowed is not None and route.name not in allowed:
                raise Forbidden(f'routes: the key itself may not use the route "{shown(flow)}".')
            if "session" not in route.auth:
                raise BadRequest(f'routes: "{shown(flow)}" takes no session tokens; add session to its auth.')
            names.add(route.name)
        return frozenset(names)

    def _ttl(self, request: JsonObject) -> float:
        if (raw := request.raw("ttl")) is None:
            return self._settings.ttl
        try:
            seconds = parse_duration(text_of(raw) or "")
        except ValueError as error:
            raise BadRequest(f"ttl {error}.") from None
        longest = format_duration(self._settings.max_ttl)
        if not 1 <= seconds <= self._settings.max_ttl:
            raise BadRequest(f"ttl must be from 1s to {longest}, the limit of this gateway.")
        return seconds


def _read(content: bytes) -> JsonObject:
    request = read_document(content)
    if unknown := [name for name in request.members if name not in _FIELDS]:
        raise BadRequest(f"{shown(unknown[0])} is not a field of this request; send {', '.join(_FIELDS)}.")
    return request


def _user(request: JsonObject, key_name: str) -> str:
    raw = request.raw("caller")
    user = None if raw is None else text_of(raw)
    if user is None:
        raise BadRequest("caller must be a string: your name for the user of this token.")
    bound_id(user, "caller")
    if len(session_name(key_name, user)) > LONGEST_NAME:
        raise BadRequest(
            f"caller is too long; session:KEY/CALLER must have at most {LONGEST_NAME} characters."
        )
    return user


def _claims(request: JsonObject) -> dict[str, str]:
    """What routes may use as `{session.NAME}`, as text; null and empty ones are left out."""
    given = request.object("claims", "claims")
    if len(given.members) > MOST_CLAIMS:
        raise BadRequest(f"claims has {len(given.members)} members; send at most {MOST_CLAIMS}.")
    claims: dict[str, str] = {}
    for name in given.members:
        if not _CLAIM_NAME.fullmatch(name):
            raise BadRequest("claims has a name that is not 1 to 64 of the characters A-Z a-z 0-9 _ . -")
        raw = given.short(name, _LONGEST_RAW)
        if raw in (None, b'""'):
            continue
        text = claim_text(json.loads(raw)) if raw and len(raw) <= _LONGEST_RAW else None
        if text is None:
            raise BadRequest(
                f"claims.{shown(name)} must be a number, a boolean, or text of at most {LONGEST_CLAIM} characters"
                " without control characters."
            )
        claims[name] = text
    return claims


def _route_names(request: JsonObject) -> list[str] | None:
    if (raw := request.raw("routes")) is None:
        return None
    try:
        names = msgspec.json.decode(raw, type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("routes must be a list of route names.") from None
    if not names:
        raise BadRequest(
            "routes is empty; name at least one route, or leave it out to allow all routes of the key."
        )
    return names
