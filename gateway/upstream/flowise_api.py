"""The gateway's own questions to Flowise: stop a run, does a chatflow stream. No client's request passes here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gateway.config import Route
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.flowise.events import UNREADABLE
from gateway.http.target import join_target
from gateway.telemetry.logs import Logger
from gateway.upstream.upstream import ForwardedIdentity, Upstream


async def abort(upstream: Upstream, exchange: Exchange) -> bool:
    """Ask Flowise to stop the run of an exchange; tells whether it said that it will.

    It always says so (capture abort-idle), and stops agentflows only (capture abort-chain); what was achieved
    shows in how the run ends. A run whose conversation is not known cannot be stopped.
    """
    route, chat_id = exchange.route, exchange.chat_id
    if route is None or chat_id is None:
        return False
    target = join_target(
        (*upstream.server.prefix, "api", "v1", "chatmessage", "abort", route.chatflow, chat_id), {}
    )
    try:
        status, _ = await upstream.ask("PUT", target, ForwardedIdentity(exchange.request_id, exchange.client))
    except GatewayError:
        return False
    return status == 200


class Streamability:
    """Which chatflows stream, as Flowise says; what is not known counts as streaming.

    A chatflow that does not stream answers JSON to `streaming: true`, but when it fails it never answers at
    all (PROTOCOL 1.5); so it is asked without.
    """

    def __init__(self, routes: Sequence[Route], upstreams: Mapping[str, Upstream], logger: Logger) -> None:
        self._routes = routes
        self._upstreams = upstreams
        self._logger = logger
        self._known: dict[str, bool] = {}

    def may_stream(self, route: Route) -> bool:
        """Whether to ask this route's chatflow for a stream."""
        return self._known.get(route.name, True)

    async def refresh(self) -> None:
        """Ask about every route, one after the other."""
        for route in self._routes:
            await self._refresh(route)

    async def _refresh(self, route: Route) -> None:
        upstream = self._upstreams[route.upstream]
        target = join_target(
            (*upstream.server.prefix, "api", "v1", "chatflows-streaming", route.chatflow), {}
        )
        try:
            status, body = await upstream.ask("GET", target, ForwardedIdentity("streamability"))
            answer = msgspec.json.decode(body) if status == 200 else None
        except (GatewayError, *UNREADABLE) as error:
            self._logger.debug("streamability_unknown", route=route.name, error=type(error).__name__)
            return
        if isinstance(answer, dict) and isinstance(answer.get("isStreaming"), bool):
            self._known[route.name] = answer["isStreaming"]
        else:
            self._logger.warning("streamability_unknown", route=route.name, status=status)
