"""What is asked: reads the body, within the route's limits, and checks it against the route's policy.

It stands behind authentication, so that a stranger makes the gateway buffer nothing. A multipart body with
files is read up to its first file here; the rest is read while it is sent.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from aiohttp import hdrs, web

from gateway.auth.caller import check_permission
from gateway.config import Route, ServerSettings
from gateway.errors import BadRequest
from gateway.exchange import Document, Exchange, UpstreamBody
from gateway.flowise.body_policy import BodyPolicy
from gateway.flowise.checks import STORAGE_PREFIX
from gateway.flowise.endpoints import BodyKind
from gateway.flowise.feedback import lead_flow, read_feedback, read_leads
from gateway.flowise.forms import read_urlencoded
from gateway.flowise.multipart import PartStream, UploadLimits, form_reader
from gateway.flowise.prediction import Changes, read_json
from gateway.flowise.uploads import HEAVY, Upload, open_attachments, open_upload
from gateway.policies.body_reader import BodyReader, Budget
from gateway.policies.cors import check_origin
from gateway.policies.routing import route_named

MAX_WITHOUT_ROUTE = 64 * 1024  # a lead names its flow in the body; the gateway's own endpoints have none
_VARIABLE = re.compile(r"\{(caller|user|route)\}")
_JSON, _URLENCODED, _MULTIPART = (
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
)


def body(
    server: ServerSettings, budget: Budget, routes: Mapping[str, Route]
) -> Callable[[Exchange], Awaitable[None]]:
    """The room."""
    reading = _Reading(server, budget, routes)

    async def room(exchange: Exchange) -> None:
        reader = reading.reader(exchange)
        if reader is None:
            return
        exchange.body_sent = reader.release
        exchange.on_response_done(reader.release)
        await reading.read(exchange, reader)
        exchange.changes = Changes(vars=_variables(exchange))
        exchange.timings.waited += reader.waited

    return room


class _Reading:
    """How each kind of body is read."""

    def __init__(self, server: ServerSettings, budget: Budget, routes: Mapping[str, Route]) -> None:
        self._idle = server.timeouts.body_idle
        self._budget = budget
        self._routes = routes
        self._policies = {route.name: policy_of(route) for route in routes.values()}

    def reader(self, exchange: Exchange) -> BodyReader | None:
        """For the requests that have a body that matters."""
        kind = BodyKind.NONE if exchange.match is None else exchange.match.endpoint.body
        if kind is BodyKind.NONE:
            return None
        limit = MAX_WITHOUT_ROUTE if exchange.route is None else exchange.route.max_body
        return BodyReader(exchange.request, limit, self._idle, self._budget)

    async def read(self, exchange: Exchange, reader: BodyReader) -> None:
        """Read the body into the exchange."""
        kind = BodyKind.NONE if exchange.match is None else exchange.match.endpoint.body
        if kind is BodyKind.PREDICTION:
            await self._read_prediction(exchange, reader)
        elif kind is BodyKind.ATTACHMENTS:
            await self._read_attachments(exchange, reader)
        elif kind is BodyKind.OWN:
            _media_type(exchange.request, _JSON)
            exchange.content = await reader.read()
        else:
            await self._read_record(exchange, reader, kind)

    async def _read_prediction(self, exchange: Exchange, reader: BodyReader) -> None:
        policy = self._policies[exchange.route_name]
        kind = _media_type(exchange.request, _JSON, _URLENCODED, _MULTIPART)
        if kind == _MULTIPART:
            await self._read_upload(exchange, reader, policy)
            return
        content = await reader.read()
        read = read_json if kind == _JSON else read_urlencoded
        if len(content) > HEAVY:
            exchange.prediction = await asyncio.to_thread(read, content, policy)
        else:
            exchange.prediction = read(content, policy)

    async def _read_upload(self, exchange: Exchange, reader: BodyReader, policy: BodyPolicy) -> None:
        await reader.begin()
        upload = await open_upload(_parts(reader), policy)
        exchange.prediction = upload.prediction
        if upload.files:
            exchange.upload = lambda changes: UpstreamBody(
                upload.content_type, _followed(exchange, upload, upload.chunks(changes))
            )

    async def _read_attachments(self, exchange: Exchange, reader: BodyReader) -> None:
        if exchange.route is None or not exchange.route.uploads:
            raise BadRequest("Uploads are off on this route.")
        _media_type(exchange.request, _MULTIPART)
        await reader.begin()
        given = "" if exchange.match is None else exchange.match.params["chatId"]
        attachments = await open_attachments(_parts(reader), given)
        exchange.document = Document(
            given,
            lambda _, chat_id: UpstreamBody(attachments.content_type, attachments.chunks(chat_id or given)),
        )

    async def _read_record(self, exchange: Exchange, reader: BodyReader, kind: BodyKind) -> None:
        _media_type(exchange.request, _JSON)
        content = await reader.read()
        if kind is BodyKind.LEADS:
            exchange.route = route_named(lead_flow(content), self._routes)
            check_origin(exchange, exchange.route.cors)
            check_permission(exchange.route, exchange.caller)
            reader.keep_within(exchange.route.max_body)
        read = read_leads if kind is BodyKind.LEADS else read_feedback
        record = read(content, self._policies[exchange.route_name])
        exchange.document = Document(
            record.chat_id, lambda flow, chat_id: UpstreamBody(_JSON, record.encode(flow, chat_id))
        )


def _variables(exchange: Exchange) -> dict[str, str]:
    """What the route says into `overrideConfig.vars`, with the caller's names put in."""
    if exchange.route is None or not exchange.route.vars:
        return {}
    if STORAGE_PREFIX in exchange.caller.name:
        raise BadRequest(
            f"The caller's name holds {STORAGE_PREFIX}, which Flowise would take for a file of its own."
        )
    words = {"caller": exchange.caller.name, "user": exchange.caller.user, "route": exchange.route.name}
    return {
        name: _VARIABLE.sub(lambda found: words[found[1]], text) for name, text in exchange.route.vars.items()
    }


def _media_type(request: web.BaseRequest, *taken: str) -> str:
    given = request.headers.getall(hdrs.CONTENT_TYPE, [])
    kind = given[0].partition(";")[0].strip().lower() if len(given) == 1 else ""
    if kind not in taken:
        raise BadRequest(f"The body needs one Content-Type, which must be {' or '.join(taken)}.")
    return kind


def _parts(reader: BodyReader) -> PartStream:
    request = reader.request
    form = form_reader(request.headers.get(hdrs.CONTENT_TYPE, ""), request.content)
    return PartStream(form, UploadLimits(max_body=reader.limit), reader.take, reader.paced)


async def _followed(exchange: Exchange, upload: Upload, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The form; the exchange learns of late fields before its end is sent, when Flowise may answer at once."""
    async for piece in pieces:
        exchange.prediction = upload.prediction
        yield piece


def policy_of(route: Route) -> BodyPolicy:
    """The route's choices, as the reader of predictions takes them."""
    return BodyPolicy(
        max_question=route.max_question,
        max_word=route.max_word,
        allowed_overrides=route.override_config.allow,
        legacy_allowed=route.body.allow,
        unknown=route.body.unknown,
        uploads=route.uploads,
        bound=route.conversations.bind,
        own_vars=frozenset(route.vars),
    )
