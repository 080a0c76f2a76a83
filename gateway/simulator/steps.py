"""The steps of a scripted run, and the frames that Flowise 3.1.2 and later write; no sockets, no clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import msgspec

HEARTBEAT = b":heartbeat\n\n"

_SMALLEST_PLAIN = 1e-6
_LARGEST_PLAIN = 1e21


@dataclass(frozen=True)
class Event:
    """One event; without `data` the frame has no such key, like `undefined` in JavaScript."""

    name: str
    data: Any = msgspec.UNSET


@dataclass(frozen=True)
class Token:
    """A `token` event, and a part of the answer's text."""

    text: str


@dataclass(frozen=True)
class Heartbeat:
    """The comment that Flowise otherwise writes every 30 seconds."""


@dataclass(frozen=True)
class Raw:
    """Arbitrary bytes as one HTTP chunk; a run that is not streamed skips them."""

    data: bytes


@dataclass(frozen=True)
class Delay:
    """The model's time passes."""

    seconds: float


@dataclass(frozen=True)
class Wait:
    """Wait until a test sets the event."""

    event: asyncio.Event


@dataclass(frozen=True)
class Fail:
    """The model fails: the run ends as in Flowise, with `error` and `end` or with a 500."""

    message: str


@dataclass(frozen=True)
class Close:
    """End the response: with a bare FIN, an RST, or `clean` with the last chunk but without an `end` event."""

    how: Literal["fin", "rst", "clean"]


@dataclass(frozen=True)
class Hang:
    """Send nothing more; the connection stays open until the simulator stops."""


Step = Event | Token | Heartbeat | Raw | Delay | Wait | Fail | Close | Hang
Steps = Iterable[Step] | AsyncIterable[Step]


def frame(event: Event) -> bytes:
    """The bytes of one event: LF only, no space after either colon, `message:` first (stream-chain)."""
    return b"message:\ndata:" + stringify(present({"event": event.name, "data": event.data})) + b"\n\n"


def stringify(value: Any) -> bytes:
    """Encode as `JSON.stringify` does: raw UTF-8, no spaces, keys in order."""
    return msgspec.json.encode(value)


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is unset, as `JSON.stringify` leaves out `undefined`."""
    return {name: value for name, value in values.items() if value is not msgspec.UNSET}


def number(value: float) -> msgspec.Raw:
    """Write a number as JavaScript does: `0.0000048`, where Python writes `4.8e-06`."""
    text = repr(value)
    if value == int(value):
        text = str(int(value))
    elif _SMALLEST_PLAIN <= abs(value) < _LARGEST_PLAIN:
        text = format(Decimal(text), "f")
    return msgspec.Raw(text.replace("e-0", "e-").encode())
