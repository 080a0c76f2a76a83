"""The place of one worker: who stands there now, and who comes next when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import monotonic

from gateway.auth.keys_model import KeyEntry
from gateway.errors import CannotRunError
from gateway.server.ipc import DRAIN, Briefing
from gateway.telemetry.logs import Logger
from gateway.telemetry.multiprocess import SharedMetrics
from gateway.workers.child import Child
from gateway.workers.restarts import Restarts

ENDED = "status 0"
READY_WITHIN = 60.0  # seconds; a worker that hangs before it serves is killed, and another one is tried


class CrashLoopError(CannotRunError):
    """A worker dies again and again; the message says which."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all slots of a parent share.

    Attributes:
        environ: for the processes.
        metrics: what the workers count.
        logger: the parent's.
        is_ending: set when nobody is to be replaced any more.
        on_ready: called when a worker has become ready.
        keys: the API keys as they are now; None: there is no keys file.
    """

    environ: Mapping[str, str]
    metrics: SharedMetrics
    logger: Logger
    is_ending: asyncio.Event
    on_ready: Callable[[], None]
    keys: Callable[[], tuple[KeyEntry, ...] | None]


class Slot:
    """One of the workers, whichever process it is."""

    def __init__(self, briefing: Briefing, surroundings: Surroundings) -> None:
        self._briefing = briefing
        self._around = surroundings
        self._child: Child | None = None
        self._logger = surroundings.logger.bind(worker=briefing.worker)

    @property
    def is_ready(self) -> bool:
        """Whether it serves."""
        return self._child is not None and self._child.is_ready

    async def keep(self) -> None:
        """Start it, and start it again when it dies, until the end comes.

        Raises:
            CrashLoopError: that is no use.
        """
        restarts = Restarts()
        while not self._around.is_ending.is_set():
            how, was_ready = await self._live()
            if self._around.is_ending.is_set():
                (self._logger.info if how == ENDED else self._logger.warning)("worker_ended", how=how)
                return
            is_crash = how != ENDED or not was_ready  # else an operator told this one to end
            delay = restarts.died(monotonic(), was_ready=was_ready) if is_crash else 0.0
            self._logger.warning("worker_ended", how=how, next_start_s=delay)
            if delay is None:
                number = self._briefing.worker
                raise CrashLoopError(f"worker {number} dies again and again, the last time by {how}")
            await self._pause(delay)

    async def _live(self) -> tuple[str, bool]:
        """One life: how it ended, and whether it was ready before."""
        try:
            briefing = replace(self._briefing, keys=self._around.keys())
            child = await Child.start(briefing, self._around.environ)
        except OSError as error:
            return f"{error.strerror}", False
        self._child = child
        self._logger.info("worker_started", pid=child.pid)
        if self._around.is_ending.is_set():
            child.tell(DRAIN)
        if await self._is_ready_in_time(child):
            self._logger.info("worker_ready", pid=child.pid)
            self._around.on_ready()
        how = await child.ended()
        self._child = None
        await asyncio.to_thread(self._around.metrics.forget, child.pid)
        return how, child.is_ready

    async def _is_ready_in_time(self, child: Child) -> bool:
        try:
            async with asyncio.timeout(READY_WITHIN):
                return await child.ready()
        except TimeoutError:
            self.kill()
            return False

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._around.is_ending.wait()
        except TimeoutError:
            return

    def tell(self, word: bytes) -> None:
        """Say a word to whoever stands here."""
        if self._child is not None:
            self._child.tell(word)

    def kill(self) -> None:
        """End whoever stands here without asking."""
        if self._child is not None:
            self._logger.warning("worker_killed", pid=self._child.pid)
            self._child.kill()
