"""Relays what is no prediction; the response is not read, only passed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiohttp import hdrs
from msgspec.structs import replace

from gateway import web
from gateway.admission.locks import ConversationLocks
from gateway.aio import Tasks
from gateway.config import Route
from gateway.exchange import Exchange, UpstreamBody
from gateway.flowise.endpoints import Purpose
from gateway.relay.delivery import Delivery, deliver
from gateway.relay.outgoing import (
    choose_server,
    choose_upstream,
    deadlines_of,
    identity_of,
    upstream_request,
)
from gateway.relay.registry import InFlight
from gateway.relay.transfer import Transfer
from gateway.upstream import flowise_api
from gateway.upstream.choice import Connector
from gateway.upstream.headers import downward
from gateway.upstream.origins import Origins
from gateway.upstream.response_parser import ResponseHead
from gateway.upstream.server import Pinned, Server
from gateway.upstream.upstream import Upstream

# An uploaded file is a stranger's content: it must not become a page of this site.
_FILE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
_RASTER = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp")
_BY_ENDING = {**{kind.partition("/")[2]: kind for kind in _RASTER}, "jpg": "image/jpeg"}


class Passthrough:
    """`send_timeout`: seconds without progress after which a client is dropped."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        in_flight: InFlight,
        locks: ConversationLocks,
        origins: Origins,
        tasks: Tasks,
        send_timeout: float,
    ) -> None:
        self._upstreams = upstreams
        self._in_flight = in_flight
        self._locks = locks
        self._origins = origins
        self._tasks = tasks
        self._send_timeout = send_timeout

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        match, route = exchange.matched
        upstream = choose_upstream(exchange, self._upstreams)
        request = upstream_request(exchange, upstream, _body(exchange, route))
        connector, others = self._connector(exchange, upstream)
        is_whole = match.endpoint.purpose is Purpose.STORE
        deadlines = deadlines_of(upstream, total_only=is_whole)
        transfer = Transfer(exchange, deadlines, connector, self._in_flight)
        try:
            try:
                head = await transfer.call.send(request)
            finally:  # also if that server does not answer, or the client does not wait for it
                if others := [server for server in others if server is not connector.server]:
                    self._tasks.start(_abort_on(others, exchange, upstream), "abort elsewhere")
            exchange.body_sent()
            is_file = match.endpoint.purpose is Purpose.FILE
            headers = _file_headers(head, exchange) if is_file else {}
            return await deliver(exchange, transfer.call, head, Delivery(headers, self._send_timeout))
        finally:
            transfer.call.detach()

    def _connector(self, exchange: Exchange, upstream: Upstream) -> tuple[Connector, list[Server]]:
        """To which server the request goes, and an abort then to which others.

        An abort goes to the server of what it ends, also if a reload has removed that. If this process has no such run,
        another one may have sent it, and not to the server that the conversation has now.
        """
        match, _ = exchange.matched
        chat_id, aborted = exchange.chat_id, _ABORTED.get(match.endpoint.purpose)
        if aborted is None or chat_id is None:
            return choose_server(exchange, upstream), []
        if aborted is Purpose.RUN:
            self._locks.cancel_waiter((self._origins[upstream.name], chat_id))
        found = self._in_flight.server_of(lambda other: self._ends(exchange, other, upstream, aborted))
        if found is not None:
            return Pinned(upstream.servers.same(found) or found), []
        choice = choose_server(exchange, upstream)
        is_everywhere = aborted is Purpose.RUN and len(upstream.servers) > 1
        return choice, upstream.servers.ranked(chat_id) if is_everywhere else []

    def _ends(self, exchange: Exchange, other: Exchange, upstream: Upstream, aborted: Purpose) -> bool:
        """Whether an abort ends this other request: a run of its conversation, or speech of the same message."""
        return (
            other.chat_id == exchange.chat_id
            and other.match is not None
            and other.match.endpoint.purpose is aborted
            and self._origins[other.upstream] == self._origins[upstream.name]
            and _message(other) == _message(exchange)
        )


_ABORTED = {Purpose.ABORT: Purpose.RUN, Purpose.SPEECH_ABORT: Purpose.SPEECH}


def _message(exchange: Exchange) -> str:
    """The answer that is read aloud; empty: this is about none."""
    return "" if exchange.document is None else exchange.document.texts.get("chatMessageId", "")


async def _abort_on(servers: Sequence[Server], exchange: Exchange, upstream: Upstream) -> None:
    """Abort on those that were not asked yet, one after the other, in the order in which the conversation has them.

    All at once, one could come so late that it hits the next run, which goes to the first that is up. The client has
    its answer from another server; one that cannot be reached has no run.
    """
    _, route = exchange.matched
    for server in servers:
        await flowise_api.abort(upstream, server, route, exchange.chat_id, identity_of(exchange))


def _body(exchange: Exchange, route: Route) -> UpstreamBody:
    """The body for Flowise. What is stored is never streamed: Flowise would answer no error then (unknown-stream)."""
    if exchange.document is not None:
        return exchange.document.encode(route.chatflow, exchange.chat_id)
    prediction = exchange.prediction
    if prediction is None:
        return UpstreamBody("", b"")
    changes = replace(exchange.changes, streaming=False if prediction.streaming else None)
    exchange.prediction = prediction.without_body()  # held by the request alone, until it is sent
    if exchange.upload is not None:
        return exchange.upload(changes)
    return UpstreamBody("application/json", prediction.written(changes))


def _file_headers(head: ResponseHead, exchange: Exchange) -> dict[str, str]:
    """Flowise 3.1.4 sends no content type for a stored file, so an image's follows from its name.

    A file that is asked for by POST is saved, never shown.
    """
    match, _ = exchange.matched
    file_name = match.query.get("fileName")
    if file_name is None:
        return {**_FILE_HEADERS, hdrs.CONTENT_DISPOSITION: _as_attachment(head)}
    content_type = head.get(b"content-type")
    if not content_type and (kind := _BY_ENDING.get(file_name.rpartition(".")[2].lower())):
        return {**_FILE_HEADERS, hdrs.CONTENT_TYPE: kind}
    if content_type.split(b";")[0].strip().lower().decode("latin-1") in _RASTER:
        return dict(_FILE_HEADERS)
    return {**_FILE_HEADERS, hdrs.CONTENT_DISPOSITION: _as_attachment(head)}


def _as_attachment(head: ResponseHead) -> str:
    disposition = dict(downward(head.fields)).get(hdrs.CONTENT_DISPOSITION, "")
    return disposition if disposition.lower().startswith("attachment") else "attachment"
