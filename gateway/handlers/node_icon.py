"""Answers with the icon of a node, which the widget shows beside its trace. Icons are those of Flowise, not of a flow.

Anyone may ask, and a page cannot send a credential for an image. So an icon is kept for an hour, in a bounded number;
a name that no Flowise has is remembered likewise.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from time import monotonic

from msgspec import Struct
from msgspec.structs import replace

from gateway import web
from gateway.errors import GatewayError, UnknownRoute, UpstreamBadReply
from gateway.exchange import Exchange
from gateway.flowise.icons import icon_type, is_missing
from gateway.http.target import join_target
from gateway.relay.outgoing import check_head, identity_of, note_server
from gateway.relay.results import upstream_result
from gateway.upstream.response_parser import BodyEnd, ResponseHead
from gateway.upstream.upstream import Upstream

LARGEST = 256 * 1024  # bytes of an icon; the largest of Flowise 3.1.4 has 144 KB
MOST_KEPT = 256  # names
MOST_BYTES = 4 * 1024 * 1024  # of all icons that are kept
KEPT_FOR = 3600.0  # seconds
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
    "Cache-Control": "public, max-age=3600",
}


class Icon(Struct, frozen=True):
    """An icon, or with an empty type the fact that there is none. `until`: monotonic seconds."""

    media_type: str
    content: bytes
    until: float


class NodeIcon:
    """Asks each upstream in turn, until one has the icon."""

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._upstreams = upstreams
        self._kept: dict[str, Icon] = {}  # the oldest first
        self._size = 0

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        if exchange.match is None:
            raise AssertionError("policies/routing refuses a request without an endpoint")
        name = exchange.match.params["name"]
        icon = self._kept.get(name)
        if icon is None or icon.until <= monotonic():
            icon = await self._fetch(exchange, name)
            self._keep(name, icon)
        if not icon.media_type:
            raise UnknownRoute("Flowise has no icon for a node of this name.")
        return web.Response(body=icon.content, headers={"Content-Type": icon.media_type, **_HEADERS})

    async def _fetch(self, exchange: Exchange, name: str) -> Icon:
        """The icon of the first Flowise that has it.

        Raises:
            GatewayError: none has it, and one did not answer, or not with an icon.
        """
        failure: GatewayError | None = None
        for upstream in self._upstreams.values():
            try:
                content = await self._ask(exchange, upstream, name)
                if content:
                    return Icon(icon_type(content), content, monotonic() + KEPT_FOR)
            except GatewayError as error:
                failure = error
        if failure is not None:
            raise failure
        return Icon("", b"", monotonic() + KEPT_FOR)

    async def _ask(self, exchange: Exchange, upstream: Upstream, name: str) -> bytes:
        """One Flowise's icon; empty if it says that it has none.

        Raises:
            GatewayError: it says neither; what it says a moment later may be another thing.
        """
        exchange.upstream = upstream.name
        target = join_target(("api", "v1", "node-icon", name), {})
        identity = replace(identity_of(exchange), trace=None)  # the answer is for others too: it has no span
        try:
            choice = upstream.choose(None, is_short=True)
            note_server(exchange, choice)
            reply = await upstream.fetch(choice, target, identity, limit=LARGEST)
            check_head(ResponseHead(reply.status))
            if reply.status != HTTPStatus.OK and not is_missing(reply.status, reply.body):
                raise UpstreamBadReply(f"Flowise answered with status {reply.status} in place of an icon.")
        except GatewayError as error:
            exchange.upstream_result = upstream_result(error, 0, None)
            raise
        exchange.upstream_result = upstream_result(BodyEnd.WHOLE, reply.status, None)
        return reply.body if reply.status == HTTPStatus.OK else b""

    def _keep(self, name: str, icon: Icon) -> None:
        if (old := self._kept.pop(name, None)) is not None:
            self._size -= len(old.content)
        self._kept[name] = icon
        self._size += len(icon.content)
        while len(self._kept) > MOST_KEPT or self._size > MOST_BYTES:
            self._size -= len(self._kept.pop(next(iter(self._kept))).content)
