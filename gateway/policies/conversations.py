"""Conversations: maps the ids that Flowise sees, and lets one run at a time into a conversation.

On a route that binds, every chatId and sessionId is mapped to one that only its caller can reach. A prediction without
a chatId gets one, so that it can be aborted and its next question continues the conversation. On a route that does not
bind, only a stream gets one, as Flowise itself would do; without streaming, a chatId would change the key of Flowise's
memory.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Protocol

from msgspec.structs import replace

from gateway.admission.locks import ConversationLocks, Key
from gateway.admission.store import STORE_TIMEOUT, StoreBudget
from gateway.auth.conversation_ids import ConversationIds
from gateway.config import ConversationSettings
from gateway.errors import ConversationBusy
from gateway.exchange import Exchange
from gateway.flowise.checks import bound_id, unbound_id
from gateway.flowise.endpoints import Purpose
from gateway.flowise.prediction import Changes, Prediction
from gateway.telemetry.metrics import Metrics

ANSWER_RUNS = (
    "An answer of this conversation is running, and Flowise would end it together with the speech. Wait for its end, or"
    " abort the answer."
)
# seconds; a request that waits longer than the store may take waits for a run of another process
SHARED_WAIT = STORE_TIMEOUT + 0.02


class ConversationOrigins(Protocol):
    """What the conversations of an upstream belong to."""

    def __getitem__(self, upstream: str) -> str:
        """The same text for upstreams that share a server."""


def conversations(
    locks: ConversationLocks, metrics: Metrics, origins: ConversationOrigins, ids: ConversationIds
) -> Callable[[Exchange], Awaitable[None] | None]:
    """The policy, which returns an awaitable only if there is something to wait for.

    Upstreams that share a server share its conversations.
    """

    def policy(exchange: Exchange) -> Awaitable[None] | None:
        purpose = Purpose.OTHER if exchange.match is None else exchange.match.endpoint.purpose
        if exchange.prediction is None:
            exchange.chat_id = _named_chat(exchange, ids)
            return _keep_free(exchange, locks, origins) if purpose is Purpose.SPEECH_ABORT else None
        if exchange.route is None:
            return None
        if purpose is Purpose.STORE:
            _map_named_ids(exchange, exchange.prediction, ids)
            return None
        if exchange.route.conversations.bind:
            _map_ids(exchange, exchange.prediction, ids)
        else:
            _keep_ids(exchange, exchange.prediction)
        if exchange.chat_id is None:
            return None
        key = (origins[exchange.route.upstream], exchange.chat_id)
        if (release := locks.take(key)) is None:
            return acquire(exchange, key, exchange.route.conversations)
        _hold(exchange, release)
        return None

    async def acquire(exchange: Exchange, key: Key, settings: ConversationSettings) -> None:
        _hold(exchange, await _acquire(exchange, locks, key, settings, metrics))

    return policy


def _hold(exchange: Exchange, release: Callable[[], None]) -> None:
    """The lock belongs to the run; without one it ends with the response."""
    exchange.release_conversation = release
    exchange.on_response_done(exchange.release_unless_running)


async def _keep_free(exchange: Exchange, locks: ConversationLocks, origins: ConversationOrigins) -> None:
    """Hold the lock of the conversation until the response is done; none is waited for.

    Raises:
        ConversationBusy: an answer runs there, which Flowise would end together with the speech.
    """
    if exchange.route is None or exchange.chat_id is None:
        return
    exchange.store_budget = exchange.store_budget or StoreBudget()
    key = (origins[exchange.route.upstream], exchange.chat_id)
    try:
        release = await locks.acquire(key, 0.0, exchange.store_budget)
    except ConversationBusy:
        raise ConversationBusy(ANSWER_RUNS) from None
    exchange.on_response_done(release)


async def _acquire(
    exchange: Exchange, locks: ConversationLocks, key: Key, settings: ConversationSettings, metrics: Metrics
) -> Callable[[], None]:
    """Acquire the lock and record a wait. Returns and raises as `ConversationLocks.acquire`."""
    is_busy, began = locks.is_busy(key), monotonic()
    longest = settings.wait if settings.when_busy == "wait" else 0.0
    exchange.store_budget = exchange.store_budget or StoreBudget()
    result = "refused"
    try:
        release = await locks.acquire(key, longest, exchange.store_budget)
        result = "got_turn"
    except asyncio.CancelledError:
        result = "client_closed"
        raise
    finally:
        waited = monotonic() - began
        if is_busy or waited > SHARED_WAIT:
            exchange.timings.waited += waited
            metrics.cell[metrics.conversation_waits, exchange.route_name, result][0] += 1
    return release


def _map_ids(exchange: Exchange, prediction: Prediction, ids: ConversationIds) -> None:
    """Map the ids of the client; without any, begin a new conversation."""
    caller = exchange.caller.name
    session = None if prediction.session_id is None else ids.mapped(caller, prediction.session_id)
    if prediction.client_chat_id is not None:
        exchange.chat_id = ids.mapped(caller, prediction.client_chat_id)
    else:
        exchange.chat_id = session or ids.new(caller)
    exchange.changes = Changes(exchange.chat_id, session_id=session, vars=exchange.changes.vars)


def _map_named_ids(exchange: Exchange, prediction: Prediction, ids: ConversationIds) -> None:
    """Map the ids of the client, also one that follows the files of a form; none begins a conversation."""
    is_bound = exchange.route is not None and exchange.route.conversations.bind
    caller = exchange.caller.name

    def mapped(text: str) -> str:
        return ids.mapped(caller, bound_id(text, "chatId")) if is_bound else unbound_id(text, "chatId")

    chat, session = prediction.client_chat_id, prediction.session_id
    exchange.chat_id = None if chat is None else mapped(chat)
    exchange.changes = replace(
        exchange.changes,
        chat_id=exchange.chat_id,
        session_id=None if session is None else mapped(session),
        late_chat_id=mapped,
    )


def _keep_ids(exchange: Exchange, prediction: Prediction) -> None:
    """Keep the ids of the client. Flowise uses a sessionId alone as the chatId, too."""
    exchange.chat_id = prediction.client_chat_id or prediction.session_id
    if exchange.chat_id is None and prediction.streaming:
        exchange.chat_id = str(uuid.uuid4())
        exchange.changes = replace(exchange.changes, chat_id=exchange.chat_id)


def _named_chat(exchange: Exchange, ids: ConversationIds) -> str | None:
    """The conversation that a request names in its path, query or body, as Flowise knows it."""
    client_chat_id = exchange.document.client_chat_id if exchange.document is not None else None
    if client_chat_id is None and exchange.match is not None:
        client_chat_id = exchange.match.client_chat_id
    if client_chat_id is None or exchange.route is None:
        return None
    if not exchange.route.conversations.bind:
        return unbound_id(client_chat_id, "chatId")
    return ids.mapped(exchange.caller.name, bound_id(client_chat_id, "chatId"))
