"""The gateway's own requests to Flowise: abort a run or speech, ask about a chatflow."""

from __future__ import annotations

from gateway.config import Route
from gateway.errors import GatewayError
from gateway.http.target import join_target
from gateway.upstream.choice import Choice
from gateway.upstream.server import Server
from gateway.upstream.upstream import ForwardedIdentity, Upstream


async def abort(
    upstream: Upstream, server: Server, route: Route, chat_id: str | None, identity: ForwardedIdentity
) -> str:
    """Ask the server that has a run to stop it; return why it did not agree, empty if it did.

    It always agrees (capture abort-idle), but stops agentflows only (capture abort-chain), so the result shows in how
    the run ends. Without a chat id a run cannot be stopped.
    """
    if chat_id is None:
        return "the conversation is known to Flowise alone"
    target = join_target(("api", "v1", "chatmessage", "abort", route.chatflow, chat_id), {})
    try:
        status, _ = await upstream.request("PUT", target, identity, server)
    except GatewayError as error:
        return error.for_log
    return "" if status == 200 else f"Flowise answered with status {status}"


async def abort_speech(
    upstream: Upstream, server: Server, content: bytes, identity: ForwardedIdentity
) -> str:
    """Ask the server that reads aloud to stop; return why it did not agree, empty if it did. `content`: JSON."""
    target = join_target(("api", "v1", "text-to-speech", "abort"), {})
    try:
        status, _ = await upstream.request("POST", target, identity, server, content)
    except GatewayError as error:
        return error.for_log
    return "" if status == 200 else f"Flowise answered with status {status}"


async def chatflows_streaming(upstream: Upstream, choice: Choice, route: Route) -> tuple[int, bytes]:
    """Status and body of Flowise's reply to whether a chatflow streams; `flowise/chatflow_state.py` reads it.

    Raises:
        GatewayError: there is no reply, or no valid one.
    """
    target = join_target(("api", "v1", "chatflows-streaming", route.chatflow), {})
    reply = await upstream.fetch(choice, target, ForwardedIdentity("streamability"))
    return reply.status, reply.body
