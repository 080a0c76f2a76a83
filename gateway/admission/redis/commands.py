"""The commands that a Redis or Valkey is sent: the scripts, and what each is given; nothing here sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

from gateway.admission.quotas import PREFIX, Charge, digest
from gateway.admission.store import Decision

Word = str | int
SETTLED_FOR = 3_600_000  # milliseconds that a settlement is remembered, so that it is never done twice


class Command(NamedTuple):
    """One command. `script`: what `EVALSHA` names, for a server that has forgotten it."""

    words: tuple[Word, ...]
    script: str = ""

    @property
    def in_full(self) -> tuple[Word, ...]:
        """The same with the script itself in place of its name."""
        return ("EVAL", self.script, *self.words[2:])


PING = Command(("PING",))


class Script:
    """A Lua script beside this module, to be used after it was loaded."""

    def __init__(self, file: str) -> None:
        self._path = Path(__file__).parent / file
        self._text = self._name = ""

    async def load(self) -> Command:
        """Read it from disk; returns the command that makes a server know it."""
        self._text = await asyncio.to_thread(self._path.read_text, encoding="utf-8")
        self._name = sha1(self._text.encode(), usedforsecurity=False).hexdigest()
        return Command(("SCRIPT", "LOAD", self._text))

    def run(self, keys: Sequence[str], *words: Word) -> Command:
        """Run it on these keys."""
        return Command(("EVALSHA", self._name, len(keys), *keys, *words), self._text)


class LimitCommands:
    """The commands of `limits.lua`. `lease` in microseconds; `now`: the time for every command, 0: the server's."""

    def __init__(self, script: Script, lease: int, now: int = 0) -> None:
        self._script = script
        self._lease = lease
        self.now = now

    def admit(self, asks: Sequence[Charge], lease: str) -> Command:
        """All of these, or nothing. `step_of` reads the answer."""
        words = [
            f"{'c' if is_slot else 'r'} {rule.need} {cost} {rule.depth}" for _, _, rule, cost, is_slot in asks
        ]
        return self._run("admit", [ask.key for ask in asks], lease, *words)

    def peek(self, asks: Sequence[Charge]) -> Command:
        """What is used of each; `numbers_of` reads the answer."""
        kinds = ("c" if ask.is_slot else "r" for ask in asks)
        return self._run("peek", [ask.key for ask in asks], *kinds)

    def settle(self, lease: str, differences: Mapping[str, int]) -> Command:
        """Charge these, once for each lease however often it is sent."""
        keys = [f"{PREFIX}settled:{digest(lease)}", *differences]
        return self._run("settle", keys, SETTLED_FOR, *differences.values())

    def probe(self, name: str) -> Command:
        """A write that changes nothing: who refuses it, as a replica or a full server does, is no store."""
        return self.settle(f"{name} was here", {})

    def renew(self, leases: Iterable[tuple[str, str]]) -> Command:
        """Bucket and lease of each run that goes on."""
        both = tuple(leases)
        return self._run("renew", [key for key, _ in both], *(lease for _, lease in both))

    def release(self, keys: Sequence[str], lease: str) -> Command:
        """This run has ended, or never was."""
        return self._run("release", keys, *([lease] * len(keys)))

    def _run(self, act: str, keys: Sequence[str], *words: Word) -> Command:
        return self._script.run(keys, act, self.now, self._lease, *words)


class TurnCommands:
    """The commands of `conversation_lock.lua`. `lease` and `place`: seconds that a turn, and a place in its queue, last."""

    def __init__(self, script: Script, lease: float, place: float) -> None:
        self._script = script
        self._lasting = (int(lease * 1000), int(place * 1000))

    def __call__(
        self, act: str, conversation: Sequence[str], token: str, *, may_wait: bool = False
    ) -> Command:
        """One of the acts that the script names."""
        tag = f"{PREFIX}{{{digest(*conversation)}}}"
        return self._script.run(
            (f"{tag}:turn", f"{tag}:next"), act, token, *self._lasting, 1 if may_wait else 0
        )


def step_of(answer: bytes) -> Decision:
    """What `admit` answered."""
    is_allowed, *used = numbers_of(answer)
    return Decision(is_allowed=is_allowed == 1, used=used)


def numbers_of(answer: bytes) -> list[int]:
    """What `peek` answered."""
    return [int(number) for number in answer.split()]
