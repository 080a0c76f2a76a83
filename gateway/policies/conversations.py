"""Whose turn it is: settles the chatId that Flowise sees, and lets one run at a time into a conversation.

A streaming prediction without a chatId gets one, so that it can be aborted; Flowise would have made one up in
the same way. Without streaming it would change the memory's key (PROTOCOL 3), so there it stays away.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic

from gateway.config import ConversationSettings
from gateway.exchange import Exchange
from gateway.flowise.ids import unbound_id
from gateway.limiting.turns import Key, Turns
from gateway.telemetry.metrics import Metrics


def conversations(
    turns: Turns, metrics: Metrics, homes: Mapping[str, str]
) -> Callable[[Exchange], Awaitable[None]]:
    """The room. `homes`: which Flowise each upstream is."""

    async def room(exchange: Exchange) -> None:
        if exchange.prediction is None:
            exchange.chat_id = _named_chat(exchange)
            return
        exchange.chat_id = _predicted_chat(exchange)
        if exchange.chat_id is None or exchange.route is None:
            return
        key = (homes[exchange.route.upstream], exchange.chat_id)
        turn = exchange.turn = await _take(exchange, key, exchange.route.conversations)
        exchange.at_leave(lambda: None if exchange.is_run_open else turn())

    async def _take(exchange: Exchange, key: Key, settings: ConversationSettings) -> Callable[[], None]:
        is_busy, began = turns.is_busy(key), monotonic()
        result = "refused"
        try:
            turn = await turns.take(key, settings.wait if settings.when_busy == "wait" else 0.0)
            result = "got_turn"
        except asyncio.CancelledError:
            result = "client_closed"
            raise
        finally:
            if is_busy:
                exchange.timings.waited += monotonic() - began
                metrics.conversation_waits.labels(exchange.route_name, result).inc()
        return turn

    return room


def _predicted_chat(exchange: Exchange) -> str | None:
    prediction = exchange.prediction
    if prediction is None:
        return None
    chat_id = prediction.chat_id or prediction.session_id
    return chat_id or (str(uuid.uuid4()) if prediction.streaming else None)


def _named_chat(exchange: Exchange) -> str | None:
    """The conversation that a request names in its path, query or body."""
    chat_id = exchange.document.chat_id if exchange.document is not None else None
    if chat_id is None and exchange.match is not None:
        chat_id = exchange.match.chat_id
    return None if chat_id is None else unbound_id(chat_id, "chatId")
