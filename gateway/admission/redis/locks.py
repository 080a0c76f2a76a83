"""One run at a time in a conversation, over all processes: first among the requests of this one, then in the store.

The first sentence of `turns` holds over all of them: the holder, one request that waits, and a refusal for every
other. Who waits asks the store again and again, in short questions that hold up nobody else. Without the store the
locks are of this process only; but who has seen that another process holds the turn never takes it for free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from gateway.admission.limiter import LEASE, RENEWALS
from gateway.admission.locks import ConversationLocks, Key
from gateway.admission.redis.client import MultiplexedClient
from gateway.admission.redis.commands import Command, Script, TurnCommands
from gateway.admission.redis.outbox import Outbox
from gateway.admission.store import StoreBudget, StoreError
from gateway.errors import ConversationBusy, GatewayError

PLACE = 5.0  # seconds that a place in the queue lasts, and a turn that was handed over, if nobody is heard of
PLACE_RENEWED = 1.0
FIRST_LOOK, LONGEST_LOOK = 0.03, 0.25  # seconds between two questions of one who waits
BUSY = "Another answer of this conversation is still running; wait for its end, or abort it."
ABORTED = "The waiting request was aborted."


@dataclass(slots=True)
class _Attempt:
    """One request for one turn.

    `called_off` fails if it shall wait no longer; `is_there`: the store may know its token; `is_waiting`: for a run of
    another process.
    """

    key: Key
    token: str
    wait: float
    until: float
    patience: StoreBudget
    called_off: asyncio.Future[None]
    is_there: bool = False
    is_waiting: bool = False


class RedisConversationLocks(ConversationLocks):
    """The same as `ConversationLocks`; of other processes `is_busy` knows nothing.

    `name` is unique among all processes, ever; `chance` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        link: MultiplexedClient,
        backlog: Outbox,
        name: str,
        chance: Callable[[], float],
        lease: float = LEASE,
    ) -> None:
        super().__init__()
        self._link = link
        self._backlog = backlog
        self._name = name
        self._chance = chance
        self._every = lease / RENEWALS
        self._script = Script("conversation_lock.lua")
        self._commands = TurnCommands(self._script, lease, PLACE)
        self._held: dict[Key, _Attempt] = {}
        self._places: dict[Key, _Attempt] = {}  # those who wait for a run of this process
        self._asking: dict[Key, _Attempt] = {}  # those who have the turn here, and ask for it there
        self._count = 0
        self._renew_at = self._places_at = 0.0

    async def take(self, key: Key, wait: float, patience: StoreBudget | None = None) -> Callable[[], None]:
        """As `ConversationLocks.take`. `patience`: how long this request may wait for the store, apart from its turn."""
        self._count += 1
        token = f"{self._name}:{self._count}"
        called_off = asyncio.get_running_loop().create_future()
        attempt = _Attempt(key, token, wait, monotonic() + wait, patience or StoreBudget(), called_off)
        try:
            give_back_here = await self._take_here(attempt)
            try:
                await self._take_there(attempt)
                self._held[key] = attempt
            finally:
                if self._held.get(key) is not attempt:
                    give_back_here()
        finally:
            if self._held.get(key) is not attempt and attempt.is_there:
                self._backlog.send(self._commands("leave", key, token))

        def give_back() -> None:
            if self._held.get(key) is attempt:
                del self._held[key]
                if attempt.is_there:
                    self._backlog.send(self._commands("give_back", key, token))
                give_back_here()

        return give_back

    def call_off(self, key: Key) -> bool:
        """As `ConversationLocks.call_off`. Who waits in another process is told as well, but not counted in the answer."""
        error = ConversationBusy(ABORTED)
        if super().call_off(key) or _tell(self._places.get(key), error):
            return True
        if key in self._asking and self._asking[key].is_waiting:
            return _tell(self._asking[key], error)
        if self._link.is_up:
            self._backlog.send(self._commands("call_off", key, ""))
        return False

    def call_all_off(self, error: GatewayError) -> None:
        """As `ConversationLocks.call_all_off`: everybody who waits in this process."""
        super().call_all_off(error)
        for attempt in (*self._places.values(), *self._asking.values()):
            _tell(attempt, error)

    async def load(self) -> Command:
        """What each connection begins with."""
        return await self._script.load()

    def renewals(self) -> list[Command]:
        """All turns that are held here; sent to the store, in time or when it is back and may have lost them."""
        for attempt in self._held.values():
            attempt.is_there = True
        return [self._commands("renew", key, attempt.token) for key, attempt in self._held.items()]

    def tick(self, now: float) -> None:
        """Renew turns and places in time. `now`: monotonic seconds."""
        if not self._link.is_up:
            return
        if now >= self._renew_at:
            self._renew_at = now + self._every
            for command in self.renewals():
                self._send(command, lambda _: None)
        if now >= self._places_at:
            self._places_at = now + PLACE_RENEWED
            for key, attempt in self._places.items():
                self._keep_place(key, attempt)

    async def _take_here(self, attempt: _Attempt) -> Callable[[], None]:
        """Among the requests of this process; who waits has the place in the store's queue, so that nobody else has."""
        key = attempt.key
        if attempt.wait <= 0 or not self.is_busy(key):
            return await super().take(key, attempt.wait)
        if key in self._places or (key in self._asking and self._asking[key].is_waiting):
            raise ConversationBusy(BUSY)
        self._places[key] = attempt
        try:
            if await self._ask("wait", attempt) == b"busy":
                raise ConversationBusy(BUSY)
            if attempt.called_off.done():
                attempt.called_off.result()
            return await super().take(key, attempt.wait)
        finally:
            del self._places[key]

    async def _take_there(self, attempt: _Attempt) -> None:
        """In the store, after the requests of other processes."""
        self._asking[attempt.key] = attempt
        try:
            answer = await self._ask("take", attempt)
            if answer in (b"taken", None):
                return
            look = FIRST_LOOK
            while answer != b"taken":
                attempt.is_waiting = True
                _see(answer, attempt)
                pause = min(look * (0.5 + self._chance()), max(0.0, attempt.until - monotonic()))
                await asyncio.wait([attempt.called_off], timeout=pause)
                look = min(LONGEST_LOOK, 2 * look)
                attempt.patience = StoreBudget()
                answer = await self._ask("take", attempt)
        finally:
            del self._asking[attempt.key]

    async def _ask(self, act: str, attempt: _Attempt) -> bytes | None:
        """What the store says; None: nothing."""
        may_wait = attempt.until > monotonic()
        command = self._commands(act, attempt.key, attempt.token, may_wait=may_wait)
        try:
            call = self._link.call(command, attempt.patience.left)
            attempt.is_there = True
            answer: bytes = await call
        except StoreError:
            attempt.patience.end()
            return None
        return answer

    def _keep_place(self, key: Key, attempt: _Attempt) -> None:
        def seen(answer: bytes) -> None:
            if answer == b"called_off" and self._places.get(key) is attempt:
                super(RedisConversationLocks, self).call_off(key)

        self._send(self._commands("keep_waiting", key, attempt.token), seen)

    def _send(self, command: Command, seen: Callable[[bytes], None]) -> None:
        """Say it and go on; what fails is said again in time."""

        def answered(answer: asyncio.Future[bytes]) -> None:
            if not answer.cancelled() and answer.exception() is None:
                seen(answer.result())

        try:
            self._link.call(command).add_done_callback(answered)
        except StoreError:
            return


def _see(answer: bytes | None, attempt: _Attempt) -> None:
    """Raise, if it is not worth waiting on."""
    if attempt.called_off.done():
        attempt.called_off.result()
    if answer == b"called_off":
        raise ConversationBusy(ABORTED)
    if attempt.wait > 0 and attempt.until <= monotonic():
        raise ConversationBusy(
            f"Another answer of this conversation is still running after {attempt.wait:g} s of waiting."
        )
    if answer == b"busy" or attempt.wait <= 0:
        raise ConversationBusy(BUSY)


def _tell(attempt: _Attempt | None, error: GatewayError) -> bool:
    """Let a request that waits fail; tells whether there was one."""
    if attempt is None or attempt.called_off.done():
        return False
    attempt.called_off.set_exception(error)
    attempt.called_off.exception()  # looked at: whoever waited may be gone by now
    return True
