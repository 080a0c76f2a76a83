"""How a body ended: the one word that connection, call and outlet share (pure)."""

from __future__ import annotations

import enum


class BodyEnd(enum.Enum):
    """How the framing of a response body (RFC 9112, 6.3) was closed."""

    WHOLE = enum.auto()  # the framing says that all of it came
    CLOSED = enum.auto()  # delimited by the close of the connection: whole as far as anyone can know
    CUT = enum.auto()  # broken off
