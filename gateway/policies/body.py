"""Reads the request body, within its limits, and checks it against the rules of the route.

It runs after authentication, so that an unknown client cannot make the gateway buffer anything. A form with files is
read up to its first file; the rest is read while it is sent to Flowise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from aiohttp import hdrs
from msgspec import Struct

from gateway import web
from gateway.aio import WorkThread
from gateway.auth.claims import filled
from gateway.config import Route
from gateway.errors import BadRequest
from gateway.exchange import Document, Exchange, UpstreamBody
from gateway.flowise.endpoints import BodyKind, FlowIn, Match
from gateway.flowise.feedback import (
    named_flow,
    read_assistant_file,
    read_feedback,
    read_feedback_change,
    read_leads,
    read_speech,
    read_speech_abort,
)
from gateway.flowise.forms import read_urlencoded
from gateway.flowise.prediction import Changes, Prediction, read_json
from gateway.flowise.raw_json import is_heavy
from gateway.http.forwarded import site_of
from gateway.policies.body_form import (
    MAX_FORM_TEXT,
    FormLimits,
    PartStream,
    Upload,
    form_reader,
    open_attachments,
    open_upload,
)
from gateway.policies.body_reader import BodyBounds, BodyReader

MAX_RECORD = (
    64 * 1024
)  # bytes of feedback, a lead and a request for a session token, which are read on the loop
LARGE = 1024 * 1024  # bytes of a body
SMALL = 1024  # likewise; it takes less time to read than everything else about its request
# Bodies that are read or wait for it, before further ones get 503: about 3 s of work for the usual ones, which take up
# to 50 ms each, and 20 s for the large ones, which take up to 3 s.
MOST_USUAL, MOST_LARGE = 64, 8
_JSON, _URLENCODED, _MULTIPART = (
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
)

EnterRoute = Callable[[Exchange, str], None]


class BodyThreads(Struct, frozen=True):
    """Where long bodies are read: large ones in a thread of their own, so that the others need not wait for them."""

    usual: WorkThread
    large: WorkThread

    @classmethod
    def start(cls) -> BodyThreads:
        return cls(WorkThread("bodies", MOST_USUAL), WorkThread("large-bodies", MOST_LARGE))

    def of(self, size: int) -> WorkThread:
        return self.usual if size <= LARGE else self.large

    async def close(self) -> None:
        await self.usual.close()
        await self.large.close()


def body(
    bounds: BodyBounds, threads: BodyThreads, enter_route: EnterRoute
) -> Callable[[Exchange], Awaitable[None] | None]:
    """The policy, which returns an awaitable only if there is something to wait for.

    `enter_route` sets and checks the route of an exchange whose body names the flow.
    """

    def policy(exchange: Exchange) -> Awaitable[None] | None:
        found = exchange.match
        if found is None or found.endpoint.body is BodyKind.NONE:
            return None
        limit = MAX_RECORD if exchange.route is None else exchange.route.max_body
        if found.endpoint.body not in (BodyKind.PREDICTION, BodyKind.ATTACHMENTS, BodyKind.DOCUMENTS):
            limit = min(limit, MAX_RECORD)
        variables = _variables(exchange)  # before anything is read: a caller may lack a claim
        reader = BodyReader(exchange.request, site_of(exchange.client), limit, bounds)
        exchange.release_body = reader.release
        exchange.on_response_done(exchange.body_sent)
        if variables:
            exchange.changes = Changes(vars=variables)
        is_prediction = found.endpoint.body is BodyKind.PREDICTION
        return None if is_prediction and _read_at_once(exchange, reader) else read(exchange, found, reader)

    async def read(exchange: Exchange, found: Match, reader: BodyReader) -> None:
        try:
            await _read(exchange, found, reader, enter_route, threads)
        finally:
            exchange.timings.waited += reader.waited

    return policy


def _read_at_once(exchange: Exchange, reader: BodyReader) -> bool:
    """Read the usual prediction: small JSON that has arrived with its head. Returns whether it was one."""
    if _media_type(exchange.request, _JSON, _URLENCODED, _MULTIPART) != _JSON:
        return False
    content = reader.arrived()
    if content is None or len(content) > SMALL or is_heavy(content):
        return False
    _keep(exchange, reader, read_json(content, _route(exchange)))
    return True


def _keep(exchange: Exchange, reader: BodyReader, prediction: Prediction) -> None:
    exchange.prediction = prediction
    if overhead := prediction.overhead:
        reader.hold(overhead)


async def _read(
    exchange: Exchange, found: Match, reader: BodyReader, enter_route: EnterRoute, threads: BodyThreads
) -> None:
    kind = found.endpoint.body
    if kind is BodyKind.PREDICTION:
        await _read_prediction(exchange, reader, threads)
    elif kind is BodyKind.ATTACHMENTS:
        await _read_attachments(exchange, found, reader)
    elif kind is BodyKind.DOCUMENTS:
        if not _route(exchange).upsert:
            raise BadRequest("Documents for the vector store are off on this route (its key upsert).")
        await _read_prediction(exchange, reader, threads, may_have_files=True)
    elif kind is BodyKind.OWN:
        _media_type(exchange.request, _JSON)
        exchange.content = bytes(await reader.read())
    else:
        _media_type(exchange.request, _JSON)
        content = bytes(await reader.read())
        if found.endpoint.flow_in is FlowIn.BODY:
            enter_route(exchange, named_flow(content, _FLOW_FIELDS.get(kind, "chatflowId")))
            reader.keep_within(_route(exchange).max_body)
        _read_record(exchange, kind, content)


async def _read_prediction(
    exchange: Exchange, reader: BodyReader, threads: BodyThreads, *, may_have_files: bool | None = None
) -> None:
    route = _route(exchange)
    media_type = _media_type(exchange.request, _JSON, _URLENCODED, _MULTIPART)
    if media_type == _MULTIPART:
        prediction = await _read_upload(exchange, reader, threads, may_have_files=may_have_files)
    else:
        if media_type == _URLENCODED:
            reader.limit = min(reader.limit, MAX_FORM_TEXT)
        content = await reader.read()
        if len(content) > SMALL:
            await reader.bounds.turns.step()
        read = read_json if media_type == _JSON else read_urlencoded
        if is_heavy(content):
            prediction = await reader.in_thread(threads.of(len(content)), read, content, route)
        else:
            prediction = read(content, route)
    _keep(exchange, reader, prediction)


async def _read_upload(
    exchange: Exchange, reader: BodyReader, threads: BodyThreads, *, may_have_files: bool | None
) -> Prediction:
    await reader.begin()
    in_thread = partial(reader.in_thread, threads.usual)
    upload = await open_upload(_parts(reader), _route(exchange), in_thread, may_have_files=may_have_files)
    if upload.files:
        reader.pass_on()
        exchange.upload = lambda changes: UpstreamBody(
            upload.content_type, _noting_late_fields(exchange, upload, upload.chunks(changes))
        )
    return upload.prediction


async def _noting_late_fields(
    exchange: Exchange, upload: Upload, pieces: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """The form. The exchange gets late fields before the last piece, since Flowise may answer at once then."""
    async for piece in pieces:
        exchange.prediction = upload.prediction
        yield piece


async def _read_attachments(exchange: Exchange, found: Match, reader: BodyReader) -> None:
    if not _route(exchange).uploads:
        raise BadRequest("Uploads are off on this route.")
    _media_type(exchange.request, _MULTIPART)
    await reader.begin()
    client_chat_id = found.params["chatId"]
    attachments = await open_attachments(_parts(reader), client_chat_id)
    reader.pass_on()

    def encode(_: str, chat_id: str | None) -> UpstreamBody:
        if chat_id is None:
            raise AssertionError("the conversation of the path has been mapped")
        return UpstreamBody(attachments.content_type, attachments.chunks(chat_id))

    exchange.document = Document(client_chat_id, encode)


def _read_record(exchange: Exchange, kind: BodyKind, content: bytes) -> None:
    route = _route(exchange)
    if kind in (BodyKind.SPEECH, BodyKind.SPEECH_ABORT) and not route.speech:
        raise BadRequest("Reading aloud is off on this route (its key speech).")
    record = _READERS[kind](content, route)
    exchange.document = Document(
        record.client_chat_id,
        lambda flow, chat_id: UpstreamBody(_JSON, record.encode(flow, chat_id)),
        record.texts,
    )


_FLOW_FIELDS = {BodyKind.LEADS: "chatflowid"}
_READERS = {
    BodyKind.FEEDBACK: read_feedback,
    BodyKind.FEEDBACK_CHANGE: read_feedback_change,
    BodyKind.LEADS: read_leads,
    BodyKind.SPEECH: read_speech,
    BodyKind.SPEECH_ABORT: read_speech_abort,
    BodyKind.ASSISTANT_FILE: read_assistant_file,
}


def _route(exchange: Exchange) -> Route:
    if exchange.route is None:
        raise AssertionError("routing or `enter_route` has set the route")
    return exchange.route


def _media_type(request: web.BaseRequest, *accepted: str) -> str:
    given = request.headers.getall(hdrs.CONTENT_TYPE, [])
    media_type = given[0].partition(";")[0].strip().lower() if len(given) == 1 else ""
    if media_type not in accepted:
        raise BadRequest(f"The body needs one Content-Type, which must be {' or '.join(accepted)}.")
    return media_type


def _parts(reader: BodyReader) -> PartStream:
    request = reader.request
    form = form_reader(request.headers.get(hdrs.CONTENT_TYPE, ""), request.content)
    return PartStream(form, FormLimits(max_body=reader.limit), reader.hold, reader.paced)


def _variables(exchange: Exchange) -> dict[str, str]:
    """What the gateway sets in `overrideConfig.vars`: the route's `vars` with their placeholders filled."""
    route = exchange.route
    if route is None or exchange.match is None or exchange.match.endpoint.body is not BodyKind.PREDICTION:
        return {}
    if not route.vars:
        return {}
    return {name: filled(text, exchange.caller, route.name) for name, text in route.vars.items()}
