"""Answers public-chatbotConfig, the widget's settings, without the flow's prompts and addresses that Flowise adds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import hdrs, web

from gateway.errors import GatewayError, UnknownRoute, UpstreamBadReply
from gateway.exchange import Exchange
from gateway.flowise.chatbot_config import trim
from gateway.flowise.endpoints import upstream_target
from gateway.flowise.outcome import Outcome, of_answer
from gateway.flowise.raw_json import HEAVY
from gateway.relay.results import upstream_result
from gateway.upstream.response_parser import BodyEnd
from gateway.upstream.upstream import ForwardedIdentity, Upstream

_JSON = "application/json; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"  # an error page of a proxy in front of Flowise


class ChatbotConfig:
    """`passthrough` handles routes with `chatbot_config: full`."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        passthrough: Callable[[Exchange], Awaitable[web.StreamResponse]],
    ) -> None:
        self._upstreams = upstreams
        self._passthrough = passthrough

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        route, found = exchange.route, exchange.match
        if route is None or found is None:
            raise AssertionError("the policies have found the route")
        if route.chatbot_config == "off":
            raise UnknownRoute("The chatbot settings of this route are off.")
        if route.chatbot_config == "full":
            return await self._passthrough(exchange)
        upstream = self._upstreams[route.upstream]
        exchange.upstream, exchange.server = upstream.name, str(upstream.server)
        target = upstream_target(found, route.chatflow, prefix=upstream.server.prefix)
        try:
            status, body = await upstream.ask(
                "GET", target, ForwardedIdentity(exchange.request_id, exchange.client)
            )
        except GatewayError as error:
            exchange.upstream_result = upstream_result(error, 0, None)
            raise
        if 300 <= status < 400:
            raise UpstreamBadReply(f"Flowise answered with a redirect ({status}).")
        exchange.status, exchange.outcome = status, of_answer(status, is_whole=True)
        exchange.upstream_result = upstream_result(BodyEnd.WHOLE, status, None)
        content = await _trimmed(body) if exchange.outcome is Outcome.OK else body
        exchange.bytes_out = len(content)
        content_type = _JSON if content[:1] in (b"{", b'"') else _TEXT
        return web.Response(
            status=status,
            body=content,
            headers={**exchange.response_headers, hdrs.CONTENT_TYPE: content_type},
        )


async def _trimmed(body: bytes) -> bytes:
    return await asyncio.to_thread(trim, body) if len(body) > HEAVY else trim(body)
