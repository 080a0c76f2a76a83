"""The gateway's own requests to Flowise: abort a run, find out whether a chatflow streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gateway.config import Route
from gateway.errors import GatewayError
from gateway.flowise.events import UNREADABLE
from gateway.http.target import join_target
from gateway.telemetry.logs import Logger
from gateway.upstream.upstream import ForwardedIdentity, Upstream


async def abort(upstream: Upstream, route: Route, chat_id: str | None, identity: ForwardedIdentity) -> str:
    """Ask Flowise to stop a run; return why it did not agree, empty if it did.

    It always agrees (capture abort-idle), but stops agentflows only (capture abort-chain), so the result shows in how
    the run ends. Without a chat id a run cannot be stopped.
    """
    if chat_id is None:
        return "the conversation is known to Flowise alone"
    target = join_target(
        (*upstream.server.prefix, "api", "v1", "chatmessage", "abort", route.chatflow, chat_id), {}
    )
    try:
        status, _ = await upstream.request("PUT", target, identity)
    except GatewayError as error:
        return error.for_log
    return "" if status == 200 else f"Flowise answered with status {status}"


class _Streaming(msgspec.Struct, rename="camel"):
    is_streaming: msgspec.Raw = msgspec.Raw(b"")


_ANSWER = msgspec.json.Decoder(_Streaming)  # builds nothing of what else is in the reply


class Streamability:
    """Which chatflows stream, as Flowise reports it; an unknown one counts as streaming.

    A chatflow that does not stream answers `streaming: true` with JSON, but if it fails it never answers. So it is
    called with `streaming: false`.
    """

    def __init__(self, routes: Sequence[Route], upstreams: Mapping[str, Upstream], logger: Logger) -> None:
        self._routes = routes
        self._upstreams = upstreams
        self._logger = logger
        self._known: dict[str, bool] = {}

    def may_stream(self, route: Route) -> bool:
        return self._known.get(route.name, True)

    async def refresh(self) -> None:
        for route in self._routes:
            await self._refresh(route)

    async def _refresh(self, route: Route) -> None:
        upstream = self._upstreams[route.upstream]
        target = join_target(
            (*upstream.server.prefix, "api", "v1", "chatflows-streaming", route.chatflow), {}
        )
        try:
            status, body = await upstream.request("GET", target, ForwardedIdentity("streamability"))
            streams = bytes(_ANSWER.decode(body).is_streaming) if status == 200 else b""
        except (GatewayError, *UNREADABLE) as error:
            self._logger.debug("streamability_unknown", route=route.name, error=type(error).__name__)
            return
        if streams in (b"true", b"false"):
            self._known[route.name] = streams == b"true"
        else:
            self._logger.warning("streamability_unknown", route=route.name, status=status)
