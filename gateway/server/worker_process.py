"""The supervisor's side of one worker: starts its process, watches it, replaces it when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic

from msgspec import Struct
from msgspec.structs import replace

from gateway.auth.keys_model import ApiKey
from gateway.command_errors import CannotRunError
from gateway.config import Config
from gateway.server.ipc import (
    ANSWER,
    CLOSING,
    DRAIN,
    PAGE,
    READY,
    WorkerConfig,
    page_message,
    parse_numbered,
    read_content,
)
from gateway.server.sockets import Reservation
from gateway.telemetry.logs import Logger
from gateway.telemetry.multiprocess import SharedMetrics, log_lost_metrics

READY_WITHIN = 60.0  # seconds; a worker that is not ready by then is killed and replaced
STALLED_AFTER = 3.0  # seconds without a sign of life, of which a worker gives one each second
CLEAN_EXIT = "status 0"
FIRST_DELAY = 0.2  # seconds before the first restart; each further death within WITHIN doubles it
DEATHS, WITHIN = 5, 60.0  # this many deaths within this many seconds are a crash loop
UNREADY = 3  # as are this many deaths in a row of workers that were never ready


class CrashLoopError(CannotRunError):
    """A worker keeps dying; the message names it."""


class WorkerContext(Struct, frozen=True):
    """What all workers of a supervisor share.

    Attributes:
        environ: environment of the processes.
        metrics: the workers' counters.
        port: the public one.
        on_closing: called when a worker, whose number it gets, accepts no more connections.
        logger: the supervisor's.
        is_stopping: set when workers are no longer replaced.
        on_ready: called whenever a worker becomes ready.
        keys: returns the current API keys; None if no keys file is configured.
        starting: held while a process is started, and while all workers change their configuration.
    """

    environ: Mapping[str, str]
    metrics: SharedMetrics
    port: Reservation
    on_closing: Callable[[int], None]
    logger: Logger
    is_stopping: asyncio.Event
    on_ready: Callable[[], None]
    keys: Callable[[], tuple[ApiKey, ...] | None]
    starting: asyncio.Lock


class WorkerProcess:
    """One worker by its number: the current process and, after a death, its replacement."""

    def __init__(self, config: WorkerConfig, context: WorkerContext) -> None:
        self._config = config
        self._context = context
        self._child: ChildProcess | None = None
        self._was_stalled = False
        self._logger = context.logger.bind(worker=config.worker)

    @property
    def number(self) -> int:
        return self._config.worker

    @property
    def pid(self) -> int | None:
        """Of the current process; None between two."""
        child = self._child
        return None if child is None else child.pid

    @property
    def is_running(self) -> bool:
        """Whether there is a process, ready or not."""
        return self._child is not None

    @property
    def is_ready(self) -> bool:
        return self._child is not None and self._child.is_ready

    @property
    def is_stalled(self) -> bool:
        """Whether it accepts connections, but its loop stands still."""
        return self._child is not None and self._child.stalled_for(monotonic()) > STALLED_AFTER

    def tick(self, now: float) -> None:
        """Log a loop that stands still, once, and its end. `now`: monotonic seconds."""
        if self._child is None:
            self._was_stalled = False
            return
        seconds = self._child.stalled_for(now)
        is_stalled = seconds > STALLED_AFTER
        if is_stalled and not self._was_stalled:
            self._logger.warning("worker_stalled", silent_s=round(seconds, 1))
        elif self._was_stalled and not is_stalled:
            self._logger.info("worker_recovered")
        self._was_stalled = is_stalled

    async def run(self) -> None:
        """Keep a process running until the supervisor stops.

        Raises:
            CrashLoopError: it dies too often.
        """
        restarts = RestartPolicy()
        while not self._context.is_stopping.is_set():
            how, was_ready = await self._run_once()
            if self._context.is_stopping.is_set():
                (self._logger.info if how == CLEAN_EXIT else self._logger.warning)("worker_ended", how=how)
                return
            is_crash = how != CLEAN_EXIT or not was_ready  # else an operator stopped this worker
            delay = restarts.died(monotonic(), was_ready=was_ready) if is_crash else 0.0
            self._logger.warning("worker_ended", how=how, next_start_s=delay)
            if delay is None:
                number = self._config.worker
                raise CrashLoopError(
                    f"Worker {number} keeps dying, last with {how}. See its lines in the log."
                )
            await self._pause(delay)

    async def _run_once(self) -> tuple[str, bool]:
        """Run one process to its end; returns how it ended and whether it was ever ready."""
        metrics = self._metrics()
        number = self._config.worker
        try:
            return await self._run(metrics)
        except OSError as error:
            return f"{error.strerror}", False
        finally:
            self._context.on_closing(number)
            if metrics is not None:
                await asyncio.to_thread(self._context.metrics.forget, metrics)

    def _metrics(self) -> int | None:
        """Memory for the metrics of one process; None if there is none, which must not keep it from serving."""
        try:
            return self._context.metrics.add_worker()
        except OSError as error:
            log_lost_metrics(self._logger, str(error.strerror))
            return None

    async def _run(self, metrics: int | None) -> tuple[str, bool]:
        """As `_run_once`.

        Raises:
            OSError: the system cannot start another process.
        """
        on_closing = partial(self._context.on_closing, self.number)
        async with self._context.starting:
            sockets = tuple(bound.fileno() for bound in self._context.port.for_worker(self.number))
            config = replace(self._config, sockets=sockets, metrics=metrics, keys=self._context.keys())
            child = await ChildProcess.start(config, self._context.environ, on_closing)
            self._child = child
        self._logger.info("worker_started", pid=child.pid)
        if self._context.is_stopping.is_set():
            child.send(DRAIN)
        if await self._is_ready_in_time(child):
            self._logger.info("worker_ready", pid=child.pid)
            self._context.on_ready()
            await child.listen()
        how = await child.ended()
        self._child = None
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
                await self._context.is_stopping.wait()
        except TimeoutError:
            return

    def adopt(self, config: Config) -> None:
        """Let the processes that are started from now on serve this."""
        self._config = replace(self._config, config=config)

    def ask(self, message: bytes, number: int) -> asyncio.Future[str]:
        """As `ChildProcess.ask`; without a process there is nothing against it."""
        if self._child is not None:
            return self._child.ask(message, number)
        answer = asyncio.get_running_loop().create_future()
        answer.set_result("")
        return answer

    @property
    def has_answered(self) -> bool:
        """Whether there is no question of the live page without an answer."""
        return self._child is not None and not self._child.inquiries

    def inquire(self, content: bytes) -> asyncio.Future[bytes]:
        """Ask for the live page; the future gets the answer, which is empty if the process ends."""
        if self._child is not None:
            return self._child.inquire(content)
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(b"")
        return answer

    def send(self, message: bytes) -> None:
        """Send a message to the current process, if there is one."""
        if self._child is not None:
            self._child.send(message)

    def kill(self) -> None:
        if self._child is not None:
            self._logger.warning("worker_killed", pid=self._child.pid)
            self._child.kill()


class ChildProcess:
    """One operating-system process, and the socket to it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_closing: Callable[[], None],
    ) -> None:
        self._process = process
        self._on_closing = on_closing
        self._reader = reader
        self._writer = writer
        self.is_ready = False
        self._heard_at = 0.0  # monotonic seconds
        self._asked = 0  # the number of the last question
        self._answer: asyncio.Future[str] | None = None
        self.inquiries: dict[int, asyncio.Future[bytes]] = {}  # of the live page, by their number
        self._inquired = 0

    @classmethod
    async def start(
        cls, config: WorkerConfig, environ: Mapping[str, str], on_closing: Callable[[], None]
    ) -> ChildProcess:
        """Start a process with this process's import path, and send it its configuration.

        `on_closing` is called when it accepts no more connections.

        Raises:
            OSError: the system cannot start another process.
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "gateway.server.worker", str(config.worker)),
                stdin=theirs.fileno(),
                env={**environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                pass_fds=[
                    *config.sockets,
                    *(one for one in (config.line_lock, config.metrics) if one is not None),
                ],
                start_new_session=True,  # Ctrl-C reaches the supervisor only, which passes it on
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        writer.write(config.encode())
        return cls(process, reader, writer, on_closing)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self) -> bool:
        """Wait until it listens; returns False if it died first."""
        while message := await self._message():
            if message == READY:
                self.is_ready = True
                return True
        return False

    async def listen(self) -> None:
        """Note its signs of life and its answers until it ends."""
        while message := await self._message():
            if message.startswith(ANSWER):
                self._answered(message)
            elif message.startswith(PAGE):
                await self._on_page(message)

    def ask(self, message: bytes, number: int) -> asyncio.Future[str]:
        """Send a message with a number; the future gets the reason against it, which is empty if it was done.

        It is empty as well if the process ends.
        """
        self._asked, self._answer = number, asyncio.get_running_loop().create_future()
        self.send(message)
        return self._answer

    def inquire(self, content: bytes) -> asyncio.Future[bytes]:
        """Ask for the live page; the future gets the answer, which is empty if the process ends."""
        self._inquired += 1
        answer = self.inquiries[self._inquired] = asyncio.get_running_loop().create_future()
        self.send(page_message(self._inquired, content))
        return answer

    async def _on_page(self, message: bytes) -> None:
        _, number, _ = parse_numbered(message)
        try:
            content = await read_content(self._reader)
        except (ConnectionError, asyncio.IncompleteReadError):  # it has died; `ended` resolves what is left
            return
        if (answer := self.inquiries.pop(number, None)) is not None and not answer.done():
            answer.set_result(content)

    def _answered(self, message: bytes) -> None:
        """An answer to an earlier question comes too late."""
        _, number, reason = parse_numbered(message)
        if number == self._asked:
            self._resolve(reason)

    def _resolve(self, reason: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(reason)

    def stalled_for(self, now: float) -> float:
        """Seconds since its last sign of life; 0 before it listens. `now`: monotonic seconds."""
        return now - self._heard_at if self.is_ready else 0.0

    async def _message(self) -> bytes:
        """Its next message; empty at its end."""
        try:
            message = await self._reader.readline()
        except ConnectionError:
            return b""
        self._heard_at = monotonic()
        if message == CLOSING:
            self._on_closing()
        return message

    async def ended(self) -> str:
        """Wait until it has exited; returns `status N` or the name of the signal that killed it."""
        status = await self._process.wait()
        self._writer.close()
        self._resolve("")
        for answer in self.inquiries.values():
            if not answer.done():
                answer.set_result(b"")
        self.inquiries.clear()
        names = {number.value: number.name for number in signal.Signals}
        return f"status {status}" if status >= 0 else names.get(-status, f"signal {-status}")

    def send(self, message: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(message)

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()


class RestartPolicy:
    """Backoff and crash-loop detection over the deaths of one worker."""

    def __init__(self) -> None:
        self._deaths: list[float] = []
        self._unready = 0

    def died(self, now: float, *, was_ready: bool) -> float | None:
        """Return the seconds to wait before the next start; None in a crash loop. `now`: monotonic seconds."""
        self._unready = 0 if was_ready else self._unready + 1
        self._deaths = [at for at in self._deaths if now - at < WITHIN]
        self._deaths.append(now)
        if self._unready >= UNREADY or len(self._deaths) >= DEATHS:
            return None
        return FIRST_DELAY * 2.0 ** (len(self._deaths) - 1)
