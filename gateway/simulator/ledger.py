"""What happened in the simulator, for tests: every request, every abort, every run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.simulator.requests import ReceivedRequest

if TYPE_CHECKING:
    from gateway.simulator.runs import Run


@dataclass
class Ledger:
    """Grows only.

    Attributes:
        asked: every request, in the order in which their bodies were read.
        aborts: chatflow id and chat id of every abort, whatever it achieved.
        runs: every prediction that got as far as a flow.
    """

    asked: list[ReceivedRequest] = field(default_factory=list)
    aborts: list[tuple[str, str]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self) -> None:
        """Something changed: whoever waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is asked at every change."""
        while not condition():
            await self._changed.wait()
