"""The commands for a Redis or Valkey, and how to read their replies; nothing here sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

from gateway.admission.gcra import Correction
from gateway.admission.quotas import PREFIX, Charge, digest, store_type
from gateway.admission.store import Decision, StoreError

Word = str | int
SETTLED_FOR = 3_600_000  # milliseconds that a settlement is remembered, so that it is never applied twice


class Command(NamedTuple):
    """One command. `script`: the text behind the digest of an `EVALSHA`, for a server that does not have it."""

    words: tuple[Word, ...]
    script: str = ""

    @property
    def in_full(self) -> tuple[Word, ...]:
        """The same as an `EVAL` with the script's text."""
        return ("EVAL", self.script, *self.words[2:])

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of a script's command; none of any other."""
        if self.words[0] not in ("EVALSHA", "EVAL"):
            return ()
        return tuple(map(str, self.words[3 : 3 + int(self.words[2])]))


PING = Command(("PING",))


class NoScript:
    """The reply of a server that does not have the script of an `EVALSHA`."""


# Error replies about the keys or the arguments of one command. Any other word is about the server or this connection:
# READONLY and NOREPLICAS after a failover, OOM, MISCONF, LOADING, MASTERDOWN, CLUSTERDOWN, BUSY, NOPERM, NOAUTH.
OF_A_KEY = "WRONGTYPE"  # one of its keys holds a value of another type
OF_ONE_COMMAND = frozenset({"ERR", "WRONGTYPE", "MOVED", "ASK", "TRYAGAIN", "CROSSSLOT"})


class ErrorReply:
    """Any other error reply. `word`: its first word, or the one that a script of ours met."""

    __slots__ = ("word",)

    def __init__(self, word: str = "ERR") -> None:
        self.word = word

    @property
    def is_refusal(self) -> bool:
        """Whether the server would refuse every write, although it may still answer reads."""
        return self.word not in OF_ONE_COMMAND

    @property
    def is_of_a_key(self) -> bool:
        """Whether one of the command's keys is the reason: it says nothing of the store."""
        return self.word == OF_A_KEY


class Script:
    """A Lua script in this folder; `load` it before `run`."""

    def __init__(self, file: str) -> None:
        self._path = Path(__file__).parent / file
        self._text = self._digest = ""

    async def load(self) -> Command:
        """Read the file; returns the command that loads the script into a server."""
        self._text = await asyncio.to_thread(self._path.read_text, encoding="utf-8")
        self._digest = sha1(self._text.encode(), usedforsecurity=False).hexdigest()
        return Command(("SCRIPT", "LOAD", self._text))

    def run(self, keys: Sequence[str], *words: Word) -> Command:
        return Command(("EVALSHA", self._digest, len(keys), *keys, *words), self._text)


class LimitCommands:
    """The commands of `limits.lua`. `lease` in microseconds; `now`: the time of every command, 0: the server's."""

    def __init__(self, script: Script, lease: int, now: int = 0) -> None:
        self._script = script
        self._lease = lease
        self.now = now

    def admit(self, charges: Sequence[Charge], lease: str) -> Command:
        """All charges or none; read the reply with `parse_decision`."""
        words = [
            f"{'c' if is_slot else 'r'} {rule.need} {cost} {rule.depth}"
            for _, _, rule, cost, is_slot in charges
        ]
        return self._run("admit", [charge.key for charge in charges], lease, *words)

    def peek(self, charges: Sequence[Charge]) -> Command:
        """What is used of each bucket; read the reply with `parse_numbers`."""
        kinds = ("c" if charge.is_slot else "r" for charge in charges)
        return self._run("peek", [charge.key for charge in charges], *kinds)

    def settle(self, lease: str, corrections: Mapping[str, Correction]) -> Command:
        """Correct the buckets; applied once per lease, however often it is sent."""
        keys = [f"{PREFIX}settled:{digest(lease)}", *corrections]
        words = [f"{correction.difference} {correction.most}" for correction in corrections.values()]
        return self._run("settle", keys, SETTLED_FOR, *words)

    def probe(self, name: str) -> Command:
        """A write without effect. A server that refuses it (a replica, or one out of memory) cannot be the store."""
        return self.settle(f"{name} was here", {})

    def renew(self, leases: Iterable[tuple[str, str]]) -> Command:
        """Renew leases, given as bucket and lease id; `parse_numbers` reads which were gone, counted from 1."""
        pairs = tuple(leases)
        return self._run("renew", [key for key, _ in pairs], *(lease for _, lease in pairs))

    def release(self, keys: Sequence[str], lease: str) -> Command:
        return self._run("release", keys, *([lease] * len(keys)))

    def replace(self, keys: Sequence[str]) -> Command:
        """Delete those that have a wrong type."""
        return self._run("replace", keys, *map(store_type, keys))

    def _run(self, act: str, keys: Sequence[str], *words: Word) -> Command:
        return self._script.run(keys, act, self.now, self._lease, *words)


class LockCommands:
    """The commands of `conversation_lock.lua`.

    `lease` and `waiter_lease`: seconds that a lock, and a place in its queue, last without renewal.
    """

    def __init__(self, script: Script, lease: float, waiter_lease: float) -> None:
        self._script = script
        self._leases = (int(lease * 1000), int(waiter_lease * 1000))

    def __call__(
        self, act: str, conversation: Sequence[str], token: str, *, may_wait: bool = False
    ) -> Command:
        """`act`: one of those that the script names."""
        tag = f"{PREFIX}{{{digest(*conversation)}}}"
        return self._script.run(
            (f"{tag}:turn", f"{tag}:next"), act, token, *self._leases, 1 if may_wait else 0
        )


def parse_decision(reply: object, count: int) -> Decision:
    """Read the reply to `admit` with this many charges.

    Raises:
        StoreError: it is none: this is not a store of ours.
    """
    is_allowed, *used = parse_numbers(reply, 1 + count)
    return Decision(is_allowed=is_allowed == 1, used=used)


def parse_numbers(reply: object, count: int | None = None) -> list[int]:
    """Read the reply to `peek`, or another of `count` numbers.

    Raises:
        StoreError: it is none.
    """
    try:
        numbers = [int(number) for number in reply.split()] if isinstance(reply, bytes) else None
    except ValueError:
        numbers = None
    if numbers is None or count not in (None, len(numbers)):
        raise StoreError("reply")
    return numbers
