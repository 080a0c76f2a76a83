"""Keys that hold what no gateway writes there (a value of another type): replaced, or left to those that need them.

One such key must not make the store count as away for everybody. It is deleted, and the command is sent once more; its
limit counts from zero, as after a loss of data. If it cannot be deleted, only the requests that need it fail, and
`when_store_fails` decides what they get.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.admission.redis.commands import Command
from gateway.admission.store import StoreListener

MOST_REMEMBERED = 1000  # keys that were reported as broken; then the oldest may be reported again


class KeyRepair:
    """`replace`: the command that deletes those of these keys that have a wrong type."""

    def __init__(self, replace: Callable[[Sequence[str]], Command], listener: StoreListener) -> None:
        self._replace = replace
        self._listener = listener
        self._reported: dict[str, None] = {}

    def command(self, broken: Command) -> Command:
        """What to send before `broken` is sent again."""
        return self._replace(broken.keys)

    def replaced(self, broken: Command, reply: object) -> None:
        """Report what the reply to `command` says."""
        lines = reply.decode(errors="replace").splitlines() if isinstance(reply, bytes) else []
        for place, _, kind in (line.partition(" ") for line in lines):
            if place.isdecimal() and 0 < int(place) <= len(broken.keys):
                self._listener.key_replaced(broken.keys[int(place) - 1], kind)

    def on_reply(self, broken: Command) -> Callable[[asyncio.Future[object]], None]:
        """A callback for the future of that reply; a failure shows when `broken` is sent again."""

        def done(reply: asyncio.Future[object]) -> None:
            if not reply.cancelled() and reply.exception() is None:
                self.replaced(broken, reply.result())

        return done

    def failed(self, broken: Command) -> None:
        """Report the keys of a command that was refused again, once."""
        new = [key for key in broken.keys if key not in self._reported]
        if new:
            self._reported.update(dict.fromkeys(new))
            for key in list(self._reported)[:-MOST_REMEMBERED]:
                del self._reported[key]
            self._listener.key_broken(new)
