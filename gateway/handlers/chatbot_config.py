"""Answers public-chatbotConfig, the widget's settings, without the flow's prompts and addresses that Flowise adds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import hdrs, web

from gateway.errors import GatewayError, UnknownRoute
from gateway.exchange import Exchange
from gateway.flowise.chatbot_config import trim
from gateway.flowise.endpoints import upstream_target
from gateway.flowise.raw_json import HEAVY
from gateway.pipeline import Handler
from gateway.relay.outgoing import check_head, choose_upstream, identity_of
from gateway.relay.results import upstream_result
from gateway.upstream.response_parser import BodyEnd, ResponseHead
from gateway.upstream.upstream import Upstream

_JSON = "application/json; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"  # an error page of a proxy in front of Flowise


class ChatbotConfig:
    """`passthrough` handles routes with `chatbot_config: full`."""

    def __init__(self, upstreams: Mapping[str, Upstream], passthrough: Handler) -> None:
        self._upstreams = upstreams
        self._passthrough = passthrough

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        match, route = exchange.matched
        if route.chatbot_config == "off":
            raise UnknownRoute("The chatbot settings of this route are off.")
        if route.chatbot_config == "full":
            return await self._passthrough(exchange)
        upstream = choose_upstream(exchange, self._upstreams)
        target = upstream_target(match, route.chatflow, prefix=upstream.server.prefix)
        try:
            status, body = await upstream.request("GET", target, identity_of(exchange))
            check_head(ResponseHead(status))
        except GatewayError as error:
            exchange.upstream_result = upstream_result(error, 0, None)
            raise
        exchange.upstream_result = upstream_result(BodyEnd.WHOLE, status, None)
        content = await _trimmed(body) if status < 400 else body
        content_type = _JSON if content[:1] in (b"{", b'"') else _TEXT
        return web.Response(status=status, body=content, headers={hdrs.CONTENT_TYPE: content_type})


async def _trimmed(body: bytes) -> bytes:
    return await asyncio.to_thread(trim, body) if len(body) > HEAVY else trim(body)
