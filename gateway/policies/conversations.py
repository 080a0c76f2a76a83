"""Whose conversation it is, and whose turn: settles the ids that Flowise sees, lets one run at a time in.

On a route that binds, every chatId and sessionId becomes one that only its caller can reach (DESIGN.md 4). A
prediction without a chatId gets one, so that it can be aborted and its next turn finds it. On a route that does not
bind only a stream gets one, as Flowise itself would do it: without streaming it would change the memory's key
(PROTOCOL 3).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from time import monotonic

from gateway.admission.locks import ConversationLocks, Key
from gateway.admission.store import STORE_TIME, StoreBudget
from gateway.auth.conversation_ids import ConversationIds
from gateway.config import ConversationSettings
from gateway.exchange import Exchange
from gateway.flowise.checks import bound_id, unbound_id
from gateway.flowise.prediction import Prediction
from gateway.telemetry.metrics import Metrics

NOTICED = (
    STORE_TIME + 0.02
)  # seconds; who waits longer than the store may take waits for a run of another process


def conversations(
    turns: ConversationLocks, metrics: Metrics, homes: Mapping[str, str], ids: ConversationIds
) -> Callable[[Exchange], Awaitable[None]]:
    """The room. `homes`: which Flowise each upstream is."""
    queue = _Queue(turns, metrics)

    async def room(exchange: Exchange) -> None:
        if exchange.prediction is None:
            exchange.chat_id = _named_chat(exchange, ids)
            return
        if exchange.route is None:
            return
        if exchange.route.conversations.bind:
            _bind(exchange, exchange.prediction, ids)
        else:
            _take_over(exchange, exchange.prediction)
        if exchange.chat_id is None:
            return
        key = (homes[exchange.route.upstream], exchange.chat_id)
        turn = exchange.turn = await queue.take(exchange, key, exchange.route.conversations)
        exchange.on_response_done(lambda: None if exchange.is_run_open else turn())

    return room


class _Queue:
    """Takes turns, and accounts for who had to wait."""

    def __init__(self, turns: ConversationLocks, metrics: Metrics) -> None:
        self._turns = turns
        self._metrics = metrics

    async def take(self, exchange: Exchange, key: Key, settings: ConversationSettings) -> Callable[[], None]:
        """Take the turn; returns how to give it back. Raises as `ConversationLocks.take` does."""
        is_busy, began = self._turns.is_busy(key), monotonic()
        longest = settings.wait if settings.when_busy == "wait" else 0.0
        exchange.patience = exchange.patience or StoreBudget()
        result = "refused"
        try:
            turn = await self._turns.take(key, longest, exchange.patience)
            result = "got_turn"
        except asyncio.CancelledError:
            result = "client_closed"
            raise
        finally:
            waited = monotonic() - began
            if is_busy or waited > NOTICED:
                exchange.timings.waited += waited
                self._metrics.conversation_waits.labels(exchange.route_name, result).inc()
        return turn


def _bind(exchange: Exchange, prediction: Prediction, ids: ConversationIds) -> None:
    """Map what the client named; what it did not name is a new conversation of its own."""
    caller = exchange.caller.name
    session = None if prediction.session_id is None else ids.mapped(caller, prediction.session_id)
    if prediction.client_chat_id is not None:
        exchange.chat_id = ids.mapped(caller, prediction.client_chat_id)
    else:
        exchange.chat_id = session or ids.mapped(caller, str(uuid.uuid4()))
    exchange.changes = replace(exchange.changes, chat_id=exchange.chat_id, session_id=session)


def _take_over(exchange: Exchange, prediction: Prediction) -> None:
    """The client's own ids. A sessionId alone is the chatId to Flowise as well, and needs no second saying."""
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
