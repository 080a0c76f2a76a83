"""The parent of several workers: holds the port and the admin listener, starts workers, replaces those that die.

It serves no requests. Signals are passed to the workers as messages: the first starts the drain, the second
(or SIGQUIT) ends it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from msgspec import Struct

from gateway.aio import Tasks, Ticker
from gateway.auth.watched_keys import WatchedKeys
from gateway.command_errors import CannotRunError
from gateway.config import Config
from gateway.page.feed import Feed
from gateway.server.admin import AdminAnswers, AdminListener
from gateway.server.handover import Given, Offer, Passed, may_hand_over, passed_ports, shares_admin_port
from gateway.server.ipc import DRAIN, HAND_OVER, STOP, WorkerConfig
from gateway.server.page_workers import WorkerProcesses
from gateway.server.reload import CannotApplyError, Reloads, Source
from gateway.server.rollout import Rollout
from gateway.server.service_manager import Systemd, without
from gateway.server.signals import handle_signals
from gateway.server.sockets import Reservation
from gateway.server.worker_process import WorkerContext, WorkerProcess
from gateway.telemetry.console import wants_colors
from gateway.telemetry.log_writer import LogWriter
from gateway.telemetry.logs import LogOutput
from gateway.telemetry.multiprocess import SharedLines, SharedMetrics, line_lock

MARGIN = 10.0  # seconds after the drain until a worker that has not exited is killed


async def supervise(config: Config, environ: Mapping[str, str], source: Source, manager: Systemd) -> None:
    """Run workers until a signal. `source`: where the configuration came from; `manager`: the service manager.

    Raises:
        CannotRunError: a port is taken, the system has no memory to share, or a worker keeps crashing.
        ConfigError: the keys file has mistakes.
    """
    try:
        lock = line_lock()
    except OSError as error:
        reason = f"{error.strerror}. Raise the limit of open files, or run one worker."
        raise CannotRunError(f"Cannot create the memory that workers share: {reason}") from error
    try:
        with LogWriter(SharedLines(lock)) as lines:
            output = LogOutput(config.logs, lines, has_colors=wants_colors(environ))
            shared = Shared(without(environ), output, lock)
            await Supervisor(config, shared, source, manager).run()
    finally:
        os.close(lock)


class Shared(Struct, frozen=True):
    """What the parent shares with its workers: their environment, and the log with the descriptor of its lock."""

    environ: Mapping[str, str]
    output: LogOutput
    lock: int


class Supervisor:
    """The workers of one port, from the first start to the last exit."""

    def __init__(self, config: Config, shared: Shared, source: Source, manager: Systemd) -> None:
        """`source`: where the configuration came from."""
        self._config = config
        self._output = shared.output
        self._logger = logger = shared.output.logger()
        self._lock = shared.lock
        self._manager = manager
        self._passed = Passed()
        self._offer: Offer | None = None
        server = config.server
        self._port = Reservation(server.listen, server.workers, mode=server.socket_mode)
        self._is_stopping = asyncio.Event()
        self._is_closed = asyncio.Event()  # no worker accepts connections, and none will
        self._metrics = metrics = SharedMetrics()
        metrics.observe_processes(self._processes)
        self._tasks = Tasks(self._on_failure)
        self._keys = WatchedKeys(config.auth.keys_file, self._tasks, logger)
        self._reloads = Reloads(source, config, self, logger, manager)
        starting = asyncio.Lock()
        self._context = WorkerContext(
            shared.environ,
            metrics,
            self._port,
            self._on_closing,
            logger,
            self._is_stopping,
            self._on_ready,
            lambda: self._keys.entries,
            starting,
        )
        self._workers: list[WorkerProcess] = []
        self._admin = self._admin_listener(config)
        watchers = [self._watch_workers, self._admin.tick, manager.tick]
        self._ticker = Ticker([*watchers, self._keys.tick, self._reloads.tick])
        self._rollout = Rollout(self._workers, starting)
        self._has_listened = self._must_stop_now = self._has_successor = False
        self._kill_timer: asyncio.TimerHandle | None = None
        self._failure: CannotRunError | None = None

    def _admin_listener(self, config: Config) -> AdminListener:
        metrics, reloads = self._metrics, self._reloads
        feed = Feed(WorkerProcesses(self._workers, metrics, reloads), self._logger, is_on=config.admin.page)
        answers = AdminAnswers(metrics.exposition, self._not_ready_reason, reloads.described, feed)
        return AdminListener(config.admin, answers, self._logger)

    async def run(self) -> None:
        """Start the workers and supervise them until a signal or a crash loop.

        Raises:
            CannotRunError, ConfigError: as for `supervise`.
        """
        handle_signals(self._on_signal, self._stop_now, self._on_hangup, self._logger)
        try:
            await self._keys.start()
            self._ticker.start()
            await self._open_ports()
            self._start_workers()
            await self._is_stopping.wait()
            await self._drain()
        finally:
            self._ticker.stop()
            self._close_public()
            self._passed.close()
            await self._admin.close()
            await self._reloads.close()
            await self._keys.close()
            self._logger.info("stopped")
        if self._failure is not None:
            raise self._failure

    async def _open_ports(self) -> None:
        """Bind both ports. An admin port that was passed answers for the predecessor until all workers are ready."""
        self._passed = passed = await passed_ports(self._config, self._manager)
        await self._admin.reserve(passed.admin)
        if not passed.admin:
            await self._admin.open()
        if self._manager.passed.public:
            self._port.use_common(passed.common)
        else:
            await self._port.open(passed.public, passed.common)

    def _start_workers(self) -> None:
        config = self._config.with_listen(self._port.addresses)
        has_colors = wants_colors(self._context.environ)
        for number in range(1, config.server.workers + 1):
            settings = WorkerConfig(number, config, self._lock, has_colors=has_colors)
            worker = WorkerProcess(settings, self._context)
            self._workers.append(worker)
            self._tasks.start(worker.run(), f"worker {number}")

    def _on_ready(self) -> None:
        if not self._has_listened and self._all_ready():
            self._has_listened = True
            self._tasks.start(self._listen(), "listen")

    async def _listen(self) -> None:
        """All workers serve: say so to everybody."""
        if self._passed.admin:
            await self._admin.open()
        public, admin = ", ".join(map(str, self._port.addresses)), self._admin.address
        self._output.listening(self._logger, public, str(admin))
        self._manager.ready(public, admin)
        self._reloads.open()
        if may_hand_over(self._config, self._manager) and not self._is_stopping.is_set():
            port, admin_listen = self._port, self._config.admin.listen
            given = Given(
                port.addresses[0], port.groups, admin_listen, lambda: self._admin.sockets, port.common
            )
            self._offer = Offer(given, self._give_way, self._logger)
            self._offer.open(self._passed)

    def _give_way(self) -> None:
        """A successor serves: drain without waiting for load balancers."""
        self._has_successor = True
        self._port.keep_files()
        self._send(HAND_OVER)  # also if it drains already, and waits for load balancers
        self._is_stopping.set()

    async def apply(self, config: Config) -> None:
        """Let all workers serve this from now on, or none; for `reloads`."""
        watch = await self._keys.prepare(config.auth.keys_file)
        try:
            keys = self._keys.entries if watch is None else watch.keys
            await self._rollout.apply(config.with_listen(self._port.addresses), keys)
        except CannotApplyError:
            if watch is not None:
                await watch.close()
            raise
        self._config = config
        self._keys.adopt(config.auth.keys_file, watch)
        self._admin.use(config.admin)
        self._output.use(config.logs)

    def count_reload(self, *, is_valid: bool) -> None:
        self._metrics.count_reload(is_valid=is_valid)

    @property
    def is_admin_local(self) -> bool:
        return self._admin.address.is_loopback

    def _processes(self) -> list[tuple[str, int]]:
        """This process and those of the workers, for the metrics; called in another thread."""
        pids = ((str(worker.number), worker.pid) for worker in list(self._workers))
        return [("", os.getpid()), *((number, pid) for number, pid in pids if pid is not None)]

    def _not_ready_reason(self) -> str:
        if self._is_stopping.is_set():
            return "draining"
        if not self._all_ready():
            return "starting"
        return "stalled" if any(worker.is_stalled for worker in self._workers) else ""

    def _watch_workers(self, now: float) -> None:
        for worker in self._workers:
            worker.tick(now)

    def _all_ready(self) -> bool:
        return bool(self._workers) and all(worker.is_ready for worker in self._workers)

    def _on_signal(self) -> None:
        if self._is_stopping.is_set():
            self._stop_now()
        self._is_stopping.set()

    def _on_hangup(self) -> None:
        self._output.reopen()  # the workers follow the file that is there then
        self._reloads.request()

    def _stop_now(self) -> None:
        self._must_stop_now = True
        self._send(STOP)
        self._kill_after(MARGIN)
        self._is_stopping.set()

    def _on_failure(self, error: BaseException) -> None:
        """Drain all workers when one cannot be kept running."""
        if isinstance(error, CannotRunError):
            self._failure = error
            self._logger.error("crash_loop", message=str(error))
        else:
            self._failure = CannotRunError("The gateway has a bug; its log has the details.")
            self._logger.error("bug", error=repr(error), exc_info=error)
        self._is_stopping.set()

    async def _drain(self) -> None:
        """Let the workers exit; kill those that do not."""
        self._reloads.stop()
        server = self._config.server
        self._logger.info("draining", delay_s=server.drain_delay, drain_s=server.drain)
        longest = server.drain_delay + server.drain + MARGIN
        self._manager.stopping(server.drain_delay + server.drain)
        self._tasks.start(self._let_go(), "ports")
        self._send(HAND_OVER if self._has_successor else DRAIN)
        if self._must_stop_now:  # the signal for it came before this drain started
            self._send(STOP)
        self._kill_after(longest)
        await self._tasks.join(longest + MARGIN)

    def _on_closing(self, worker: int) -> None:
        self._port.release(worker)
        if self._is_stopping.is_set() and not self._port.is_used:
            self._is_closed.set()

    async def _let_go(self) -> None:
        """Close the port with the last worker that accepted there, and the admin port if a successor shares it."""
        if self._port.is_used:
            await self._is_closed.wait()
        self._close_public()
        if shares_admin_port(self._config, self._manager):
            await self._admin.close()

    def _close_public(self) -> None:
        if self._offer is not None:
            self._offer.close()
        self._port.close()

    def _send(self, message: bytes) -> None:
        for worker in self._workers:
            worker.send(message)

    def _kill_after(self, seconds: float) -> None:
        """Kill all workers after `seconds`, unless an earlier time is set."""
        loop = asyncio.get_running_loop()
        if self._kill_timer is not None:
            if self._kill_timer.when() <= loop.time() + seconds:
                return
            self._kill_timer.cancel()
        self._kill_timer = loop.call_later(seconds, self._kill)

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()
