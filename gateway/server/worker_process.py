"""The place of one worker: who stands there now, and who comes next when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import monotonic

from gateway.auth.keys_model import KeyEntry
from gateway.errors import CannotRunError
from gateway.server.ipc import DRAIN, READY, WorkerConfig
from gateway.telemetry.logs import Logger
from gateway.telemetry.multiprocess import SharedMetrics

FIRST = 0.2  # seconds before the next start; each death within WITHIN doubles it
DEATHS, WITHIN = 5, 60.0  # so many deaths in so many seconds are a crash loop
UNREADY = 3  # as are so many in a row before it was ever ready


class RestartPolicy:
    """The deaths of one worker and of those that replaced it."""

    def __init__(self) -> None:
        self._deaths: list[float] = []
        self._unready = 0

    def died(self, now: float, *, was_ready: bool) -> float | None:
        """How long to wait before the next start, in seconds; None: it is a crash loop."""
        self._unready = 0 if was_ready else self._unready + 1
        self._deaths = [at for at in self._deaths if now - at < WITHIN]
        self._deaths.append(now)
        if self._unready >= UNREADY or len(self._deaths) >= DEATHS:
            return None
        return FIRST * 2.0 ** (len(self._deaths) - 1)


class ChildProcess:
    """A process from its start to its end."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.is_ready = False

    @classmethod
    async def start(cls, briefing: WorkerConfig, environ: Mapping[str, str]) -> ChildProcess:
        """Start a process that imports what this one would import, and brief it.

        Raises:
            OSError: the system has no room for one more.
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "gateway.server.worker", str(briefing.worker)),
                stdin=theirs.fileno(),
                env={**environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,  # Ctrl-C is for the parent, who passes it on
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        writer.write(briefing.packed())
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def ready(self) -> bool:
        """Wait until it listens; False if it died before."""
        try:
            self.is_ready = await self._reader.readline() == READY
        except ConnectionError:
            return False
        return self.is_ready

    async def ended(self) -> str:
        """Wait until it has ended; tells how: `status N`, or the name of the signal that killed it."""
        status = await self._process.wait()
        self._writer.close()
        names = {number.value: number.name for number in signal.Signals}
        return f"status {status}" if status >= 0 else names.get(-status, f"signal {-status}")

    def tell(self, word: bytes) -> None:
        """Say a word; who is dead does not hear it."""
        if not self._writer.is_closing():
            self._writer.write(word)

    def kill(self) -> None:
        """End it without asking."""
        if self._process.returncode is None:
            self._process.kill()


ENDED = "status 0"
READY_WITHIN = 60.0  # seconds; a worker that hangs before it serves is killed, and another one is tried


class CrashLoopError(CannotRunError):
    """A worker dies again and again; the message says which."""


@dataclass(frozen=True, slots=True)
class WorkerContext:
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


class WorkerProcess:
    """One of the workers, whichever process it is."""

    def __init__(self, briefing: WorkerConfig, surroundings: WorkerContext) -> None:
        self._briefing = briefing
        self._around = surroundings
        self._child: ChildProcess | None = None
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
        restarts = RestartPolicy()
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
            child = await ChildProcess.start(briefing, self._around.environ)
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

    async def _is_ready_in_time(self, child: ChildProcess) -> bool:
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
