"""Which of several servers a request goes to (pure).

By conversation: weighted rendezvous hashing. Each server draws a number for the conversation, and the highest wins. A
server that is left out changes the choice only where it was the highest, so that a lost server moves its own
conversations and no others, and they return with it. Every process comes to the same choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

_UNIT = 2.0**-64


class Candidate(Protocol):
    """What the choice depends on."""

    @property
    def lot(self) -> Lot:
        """Its part in the draw of every conversation."""

    @property
    def busy(self) -> int:
        """How many runs are open there."""


C = TypeVar("C", bound=Candidate)


class Lot:
    """What a server brings to every draw.

    Attributes:
        factor: of its own: the fraction of its product with the point of a conversation is the number that it draws.
            It has more than 20 bits before the point, so that the fractions of two servers have nothing in common.
        power: 1 / weight. The highest of w draws of `u` is distributed as `u ** (1 / w)`.
        weight: its share, relative to those of others.
        turn: rises with each choice that was not by conversation, by less the more weight there is.
    """

    __slots__ = ("factor", "power", "turn", "weight")

    def __init__(self, identity: str, weight: int) -> None:
        self.factor = (1.0 + point_of(identity)) * 2**20
        self.weight = weight
        self.power = 1 / weight
        self.turn = 0.0


def point_of(text: str) -> float:
    """A number from 0 to 1 that looks random and is always the same for this text."""
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()) * _UNIT


def by_conversation(chat_id: str, candidates: Sequence[C]) -> C:
    """The server of a conversation; there is at least one candidate."""
    point = point_of(chat_id)
    chosen, highest = candidates[0], -1.0
    for candidate in candidates:
        lot = candidate.lot
        drawn = (point * lot.factor % 1.0) ** lot.power
        if drawn > highest:
            chosen, highest = candidate, drawn
    return chosen


def least_busy(candidates: Sequence[C]) -> C:
    """The server with the fewest open runs by weight; of equal ones the one whose turn it is."""
    chosen = candidates[0]
    fewest, first = chosen.busy / chosen.lot.weight, chosen.lot.turn
    for candidate in candidates[1:]:
        lot = candidate.lot
        runs = candidate.busy / lot.weight
        if runs < fewest or (runs == fewest and lot.turn < first):
            chosen, fewest, first = candidate, runs, lot.turn
    # one that is new, or was away, must not catch up
    latest = max(candidate.lot.turn for candidate in candidates)
    chosen.lot.turn = max(chosen.lot.turn, latest - 1) + chosen.lot.power
    return chosen
