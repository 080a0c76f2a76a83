"""The parent of several workers: it holds the port and the admin listener, starts workers, and replaces what dies.

It serves no request itself. Its signals become words to the workers: the first begins the drain, the second ends it.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO, cast

from gateway.aio import Tasks, Ticker
from gateway.auth.keyring import Keyring
from gateway.auth.keys_watch import KeysWatch
from gateway.config import Config
from gateway.errors import CannotRunError
from gateway.server.admin import AdminListener
from gateway.server.ipc import DRAIN, STOP, WorkerConfig
from gateway.server.sockets import Reservation
from gateway.server.worker_process import WorkerContext, WorkerProcess
from gateway.telemetry.logs import Logger, make_logger
from gateway.telemetry.multiprocess import SharedLines, SharedMetrics

MARGIN = 10.0  # seconds after the drain in which a worker must have settled and closed everything; then it is killed


async def supervise(config: Config, environ: Mapping[str, str]) -> None:
    """Run workers until told to stop.

    Raises:
        CannotRunError: a port is taken, there is no room for what workers share, one of them dies again and again.
        ConfigError: the keys file has mistakes.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="flowise-gateway-", ignore_cleanup_errors=True)
    except OSError as error:
        raise CannotRunError(f"cannot make a folder for what workers share: {error.strerror}") from error
    with folder as name, SharedLines(Path(name)) as lines:
        logger = make_logger(config.logs, cast(TextIO, lines))
        await Supervisor(config, logger, environ, Path(name)).run()


class Supervisor:
    """The workers of one port."""

    def __init__(self, config: Config, logger: Logger, environ: Mapping[str, str], folder: Path) -> None:
        self._config = config
        self._logger = logger
        self._folder = folder
        self._is_ending = asyncio.Event()
        metrics = SharedMetrics(folder)
        self._tasks = Tasks(self._on_failure)
        file = config.auth.keys_file
        self._keys = None if file is None else KeysWatch(file, Keyring(), self._tasks, logger)
        self._ticker = Ticker([] if self._keys is None else [self._keys.tick])
        self._surroundings = WorkerContext(
            {**environ, **metrics.environment},
            metrics,
            logger,
            self._is_ending,
            self._on_ready,
            lambda: None if self._keys is None else self._keys.entries,
        )
        self._admin = AdminListener(config.admin, metrics.exposition, self._not_ready_reason, logger)
        self._port = Reservation(config.server.listen)
        self._slots: list[WorkerProcess] = []
        self._has_listened = self._is_hurried = False
        self._killing: asyncio.TimerHandle | None = None
        self._failure: CannotRunError | None = None

    async def run(self) -> None:
        """Start the workers, watch them, end them.

        Raises:
            CannotRunError, ConfigError: as for `supervise`.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        try:
            if self._keys is not None:
                await self._keys.start()
            self._ticker.start()
            await self._admin.open()
            await self._port.open()
            self._start()
            await self._is_ending.wait()
            await self._drain()
        finally:
            self._ticker.stop()
            self._port.close()
            await self._admin.close()
            self._logger.info("stopped")
        if self._failure is not None:
            raise self._failure

    def _start(self) -> None:
        config = self._config.with_listen(self._port.address)
        for worker in range(1, config.server.workers + 1):
            slot = WorkerProcess(WorkerConfig(worker, config, self._folder), self._surroundings)
            self._slots.append(slot)
            self._tasks.start(slot.keep(), f"worker {worker}")

    def _on_ready(self) -> None:
        if not self._has_listened and self._are_ready():
            self._has_listened = True
            self._logger.info("listening", public=str(self._port.address), admin=str(self._admin.address))

    def _not_ready_reason(self) -> str:
        if self._is_ending.is_set():
            return "draining"
        return "" if self._are_ready() else "starting"

    def _are_ready(self) -> bool:
        return bool(self._slots) and all(slot.is_ready for slot in self._slots)

    def _on_signal(self) -> None:
        if self._is_ending.is_set():
            self._is_hurried = True
            self._tell(STOP)
            self._kill_after(MARGIN)
        self._is_ending.set()

    def _on_failure(self, error: BaseException) -> None:
        """A slot is kept no more, so all end; what is open may still finish."""
        if isinstance(error, CannotRunError):
            self._failure = error
            self._logger.error("crash_loop", message=str(error))
        else:
            self._failure = CannotRunError("there is a mistake in the gateway; its log has the details")
            self._logger.error("bug", error=repr(error), exc_info=error)
        self._is_ending.set()

    async def _drain(self) -> None:
        """Let the workers end; whoever does not is killed."""
        server = self._config.server
        self._logger.info("draining", delay_s=server.drain_delay, drain_s=server.drain)
        longest = server.drain_delay + server.drain + MARGIN
        self._tell(DRAIN)
        if self._is_hurried:  # before the drain had begun
            self._tell(STOP)
        self._kill_after(longest)
        await self._tasks.join(longest + MARGIN)

    def _tell(self, word: bytes) -> None:
        for slot in self._slots:
            slot.tell(word)

    def _kill_after(self, seconds: float) -> None:
        """Or sooner, if that was said before."""
        loop = asyncio.get_running_loop()
        if self._killing is not None:
            if self._killing.when() <= loop.time() + seconds:
                return
            self._killing.cancel()
        self._killing = loop.call_later(seconds, self._kill)

    def _kill(self) -> None:
        for slot in self._slots:
            slot.kill()
