"""Lines that clients cause without a request: the first of each kind and address, then their number each minute.

Metrics count every one of them. A client could fill a disk otherwise, with nothing but connections.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from msgspec import Struct

from gateway.telemetry.logs import Logger

EVERY = 60.0  # seconds between two lines of one kind and address
MOST = 256  # addresses of a kind that are told apart; the lines of a minute are written at once
OTHERS = "others"  # in the place of the address, beyond that number


class _Repeated(Struct):
    """A line, when it may be written again in monotonic seconds, and how many were left out since."""

    event: str
    fields: dict[str, Any]
    due: float
    left_out: int = 0


class Repeats:
    """Writes warnings. Times are monotonic seconds."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._known: dict[tuple[str, str, str], _Repeated] = {}
        self._addresses: Counter[tuple[str, str]] = (
            Counter()
        )  # by event and kind: one that floods hides no other

    def __call__(self, event: str, kind: str, site: str, now: float, /, **fields: Any) -> None:
        """Write a line, or count it.

        Args:
            event: of the line.
            kind: what makes the line differ from others of its event and site.
            site: what the client's address counts for.
            now: the time.
            fields: of the line; `client` is the address.
        """
        key = event, kind, site
        if key not in self._known and self._addresses[event, kind] >= MOST:
            key, fields = (event, kind, OTHERS), {**fields, "client": OTHERS}
        if (known := self._known.get(key)) is not None:
            known.left_out += 1
            return
        self._known[key] = _Repeated(event, fields, now + EVERY)
        self._addresses[event, kind] += 1
        self._logger.warning(event, **fields)

    def tick(self, now: float) -> None:
        """Write how many were left out, and forget what has not happened again."""
        for key, known in [one for one in self._known.items() if one[1].due <= now]:
            if known.left_out:
                self._write(known)
                known.due = now + EVERY
            else:
                del self._known[key]
                self._addresses[key[:2]] -= 1

    def close(self) -> None:
        """Write how many were left out, without waiting."""
        for known in self._known.values():
            if known.left_out:
                self._write(known)
        self._known.clear()
        self._addresses.clear()

    def _write(self, known: _Repeated) -> None:
        self._logger.warning(known.event, **known.fields, count=known.left_out)
        known.left_out = 0
