"""One run at a time in a conversation: the holder, one request that waits, and a refusal for every other.

Flowise keys its streams by chatId alone, so two at once would get each other's tokens (capture
same-chatid-first). The locks are of this process only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gateway.admission.store import StoreBudget
from gateway.errors import ConversationBusy, GatewayError

Key = tuple[str, str]  # the Flowise (its address, not its name here), the chatId that it sees


@dataclass(slots=True)
class _Turn:
    waiting: asyncio.Future[None] | None = None


class ConversationLocks:
    """The turns that are taken now."""

    def __init__(self) -> None:
        self._taken: dict[Key, _Turn] = {}

    def __len__(self) -> int:
        return len(self._taken)

    def is_busy(self, key: Key) -> bool:
        """Whether a run holds this turn."""
        return key in self._taken

    async def take(
        self,
        key: Key,
        wait: float,
        patience: StoreBudget | None = None,  # noqa: ARG002 - of those who ask a store
    ) -> Callable[[], None]:
        """Take the turn, after waiting up to `wait` seconds (0: not at all); returns how to give it back.

        `patience`: how long this request may wait for the shared store, apart from its turn.

        Raises:
            ConversationBusy: it stayed taken, somebody waits already, or the wait was called off.
            Draining: the process is about to end.
        """
        turn = self._taken.get(key)
        if turn is None:
            self._taken[key] = _Turn()
        else:
            await self._wait_for(turn, wait)
        is_given_back = False

        def give_back() -> None:
            nonlocal is_given_back
            if not is_given_back:
                is_given_back = True
                self._pass_on(key)

        return give_back

    def call_off(self, key: Key) -> bool:
        """Refuse the request that waits for this turn; tells whether there was one."""
        turn = self._taken.get(key)
        return turn is not None and _refuse(turn, ConversationBusy("The waiting request was aborted."))

    def call_all_off(self, error: GatewayError) -> None:
        """Refuse everybody who waits."""
        for turn in self._taken.values():
            _refuse(turn, error)

    async def _wait_for(self, turn: _Turn, wait: float) -> None:
        if wait <= 0 or turn.waiting is not None:
            raise ConversationBusy(
                "Another answer of this conversation is still running; wait for its end, or abort it."
            )
        waiting = turn.waiting = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(wait):
                await waiting
        except TimeoutError:
            if _is_passed_on(waiting):
                return
            raise ConversationBusy(
                f"Another answer of this conversation is still running after {wait:g} s of waiting."
            ) from None
        except asyncio.CancelledError:
            if _is_passed_on(waiting):
                self._pass_on(next(key for key, taken in self._taken.items() if taken is turn))
            raise
        finally:
            if turn.waiting is waiting:
                turn.waiting = None

    def _pass_on(self, key: Key) -> None:
        waiting = self._taken[key].waiting
        if waiting is not None and not waiting.done():
            self._taken[key].waiting = None
            waiting.set_result(None)
        else:
            del self._taken[key]


def _is_passed_on(waiting: asyncio.Future[None]) -> bool:
    return waiting.done() and not waiting.cancelled() and waiting.exception() is None


def _refuse(turn: _Turn, error: GatewayError) -> bool:
    waiting, turn.waiting = turn.waiting, None
    if waiting is None or waiting.done():
        return False
    waiting.set_exception(error)
    waiting.exception()  # looked at: whoever waited may be gone by now
    return True
