"""One gateway process: listen, serve until a signal, drain, stop.

SIGTERM and SIGINT start the drain, in this order: `/readyz` turns 503; the port stays open for `drain_delay`, so that
load balancers notice; the port closes; open streams may finish within `drain`; the remaining ones are ended with an
`error` and an `end` event. A second signal, or SIGQUIT, skips the waiting. `server/signals.py` has all others.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from gateway.app import Gateway, Prepared
from gateway.auth.keys_model import ApiKey
from gateway.config import Address, Config
from gateway.server.admin import MAX_CONNECTIONS, AdminAnswers, AdminListener
from gateway.server.handover import Given, Offer, Passed, may_hand_over, passed_ports, shares_admin_port
from gateway.server.listener import ConnectionGuard, Listener
from gateway.server.memory import exempt_what_lasts, return_large_blocks
from gateway.server.reload import FIXED, CannotApplyError, Reloads, Source
from gateway.server.service_manager import Systemd
from gateway.server.signals import handle_signals
from gateway.server.sockets import PUBLIC, Port
from gateway.telemetry.logs import Logger, LogOutput

OWN_DESCRIPTORS = 64 + MAX_CONNECTIONS
ARRIVING = 1.0  # seconds for the first request of a connection that was accepted just before the port closed
# Seconds for which a thread that computes keeps the interpreter from the loop, each time that the loop has waited for a
# socket. The default of 5 ms made each request of all others wait for 3 ms while one large body was read.
SWITCH_INTERVAL = 0.0005
SHUTDOWN_TIMEOUT = 1.0  # seconds; aiohttp spends it twice on handlers that outlive the drain


async def serve(
    config: Config,
    logger: Logger,
    output: LogOutput,
    source: Source,
    manager: Systemd | None = None,
    announce: Callable[[Process], None] = lambda _: None,
) -> None:
    """Run the gateway until a signal.

    Args:
        config: what it serves.
        logger: its log.
        output: of the logger.
        source: where the configuration came from.
        manager: the service manager, if this process may have one.
        announce: called once it listens.
    """
    exempt_what_lasts()
    manager = manager or Systemd.none()
    manager.log_to(logger)
    process = Process(config, logger, output=output, source=source, manager=manager)

    def on_drain() -> None:
        if process.is_stopping:
            process.stop_now()
        process.request_stop()

    def on_listening(process: Process) -> None:
        public, admin = process.addresses
        logger.info("listening", public=str(public), admin=str(admin))
        manager.ready(public, admin)
        announce(process)

    def on_hangup() -> None:
        output.reopen()
        process.reloads.request()

    handle_signals(on_drain, process.stop_now, on_hangup, logger)
    await process.run(on_listening)


def descriptors_needed(config: Config) -> int:
    """Open files of one process: one for each connection that it may have."""
    upstreams = sum(
        upstream.max_connections * len(upstream.servers) for upstream in config.upstreams.values()
    )
    return config.server.max_connections + upstreams + OWN_DESCRIPTORS


@dataclass(frozen=True, slots=True)
class FromParent:
    """What a worker gets. `sockets`: of the public port. `keys`: entries of the keys file; None: none is configured."""

    sockets: Sequence[socket.socket]
    keys: tuple[ApiKey, ...] | None = None


class Process:
    """The gateway with its listeners, from `start` to `stop`; `run` does both and the drain.

    A worker gets the sockets of its public port and has no admin listener; the supervisor has it.
    """

    def __init__(
        self,
        config: Config,
        logger: Logger,
        *,
        parent: FromParent | None = None,
        output: LogOutput | None = None,
        source: Source = FIXED,
        manager: Systemd | None = None,
    ) -> None:
        """A process that has not started.

        Args:
            config: what it serves.
            logger: its log.
            parent: of a worker, what it gets from its parent; None: the process opens both ports.
            output: of the logger; lines that it loses are counted.
            source: where the configuration came from.
            manager: the service manager, if it has one.
        """
        self._config = config
        self._logger = logger
        self.reloads = Reloads(source, config, self, logger, manager)
        self.gateway = Gateway(config, logger, None if parent is None else parent.keys)
        self._guard = ConnectionGuard(config.server, logger, self.gateway.count_unparsable)
        self._listener = Listener(self.gateway.handle, config.server, self._guard, logger, self.gateway.reads)
        self._public = web.ServerRunner(self._listener, shutdown_timeout=SHUTDOWN_TIMEOUT)
        self._manager = manager or Systemd.none()
        self._passed = Passed(public=[] if parent is None else [list(parent.sockets)])
        self._port = Port(config.server.listen)
        self._admin = self._admin_listener() if parent is None else None
        self._offer: Offer | None = None
        self.on_closing: Callable[[], None] = lambda: None  # called when no more connections are accepted
        self._output = output
        self._lost_lines = 0  # that are counted
        self._stop_requested = asyncio.Event()
        self._skip_delay = asyncio.Event()
        self._must_stop_now = False

    def _admin_listener(self) -> AdminListener:
        answers = AdminAnswers(
            self.gateway.metrics.exposition,
            lambda: "" if self.gateway.is_ready else "draining",
            self.reloads.described,
        )
        return AdminListener(self._config.admin, answers, self._logger)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The bound addresses of the public and, unless it is a worker, the admin listener."""
        return self._port.address, *([self._admin.address] if self._admin else [])

    @property
    def is_stopping(self) -> bool:
        return self._stop_requested.is_set()

    async def run(self, announce: Callable[[Process], None]) -> None:
        """Serve until `request_stop`, then drain. `announce` is called once it listens.

        Raises:
            CannotListenError: a port cannot be opened.
        """
        try:
            await self.start()
            announce(self)
            await self._stop_requested.wait()
            await self.drain()
        finally:
            await self.stop()

    async def start(self) -> None:
        """Start the gateway and open its ports.

        Raises:
            CannotListenError: a port cannot be opened.
        """
        sys.setswitchinterval(SWITCH_INTERVAL)
        return_large_blocks()
        self.gateway.watch(self._guard.tick)
        if self._admin is not None:
            self.gateway.watch(self._admin.tick)
            self.gateway.watch(self._manager.tick)
            self.gateway.metrics.observe_processes(lambda: [("", os.getpid())])
        if self._output is not None:
            self.gateway.watch(partial(self._count_lost_lines, self._output))
        self.gateway.watch(self.reloads.tick)
        await self.gateway.start()
        self._check_descriptors()
        await self._open_ports()

    async def _open_ports(self) -> None:
        """Bind both ports before one accepts; the admin port last, because it answers for this process then."""
        config, admin = self._config, self._admin
        if admin is not None:
            self._passed = await passed_ports(config, self._manager)
            await admin.reserve(self._passed.admin)
        passed = [one for group in self._passed.public for one in group]
        self._port = Port(config.server.listen, PUBLIC, passed, is_shared=config.server.handover)
        await self._port.open()
        await self._public.setup()
        await self._port.serve(self._public)
        self.gateway.is_ready = True
        if admin is not None:
            await admin.open()
            if may_hand_over(config, self._manager):
                self._offer_to_successor(admin)
        self.reloads.open()

    def _offer_to_successor(self, admin: AdminListener) -> None:
        server = self._config.server
        given = Given(
            Address(server.listen.host, self._port.address.port),
            lambda: [self._port.sockets],
            self._config.admin.listen,
            lambda: admin.sockets,
        )
        self._offer = Offer(given, partial(self.request_stop, skip_delay=True), self._logger)
        self._offer.open(self._passed)

    # -- another configuration ---------------------------------------------------------------------

    async def apply(self, config: Config) -> None:
        """Serve this from now on; for `reloads`."""
        self.commit(await self.prepare(config))

    async def prepare(self, config: Config, known_keys: tuple[ApiKey, ...] | None = None) -> Prepared:
        """Do all that can fail on the way to another configuration; nothing changes yet.

        Raises:
            ConfigError: its keys file has mistakes.
            CannotApplyError: it cannot be served, or the process is stopping.
        """
        try:
            prepared = await self.gateway.prepare(config, known_keys)
        except OSError as error:
            raise CannotApplyError(f"cannot read {error.filename}: {error.strerror}") from error
        if self.is_stopping:
            await self.gateway.abandon(prepared)
            raise CannotApplyError("is shutting down")
        return prepared

    def commit(self, prepared: Prepared) -> None:
        """Serve this configuration from now on, in one step."""
        self._config = config = prepared.serving.config
        self.gateway.commit(prepared)
        self._guard.use(config.server)
        self._listener.use(config.server)
        if self._admin is not None:
            self._admin.use(config.admin)
        if self._output is not None:
            self._output.use(config.logs)
        self._check_descriptors()

    def count_reload(self, *, is_valid: bool) -> None:
        self.gateway.metrics.reloaded(is_valid)

    @property
    def is_admin_local(self) -> bool:
        return self._admin is None or self._admin.address.is_loopback

    # -- the end -----------------------------------------------------------------------------------

    def _count_lost_lines(self, output: LogOutput, _: float) -> None:
        lost = output.lost
        if lost > self._lost_lines:
            self.gateway.metrics.log_lines_lost.inc(lost - self._lost_lines)
            self._lost_lines = lost

    def request_stop(self, *, skip_delay: bool = False) -> None:
        """Start the drain. `skip_delay`: close the port now, without `drain_delay`."""
        if skip_delay:
            self._skip_delay.set()
        self._stop_requested.set()

    async def drain(self) -> None:
        """Let open requests finish, then end the remaining ones."""
        self.reloads.stop()
        server = self._config.server
        self.gateway.is_ready = False
        self._logger.info("draining", delay_s=server.drain_delay, drain_s=server.drain)
        self._manager.stopping(server.drain_delay + server.drain)
        await self._delay(server.drain_delay)
        await self._close_ports()
        self.gateway.begin_drain()
        if not self._must_stop_now:
            await self._let_arrive()
        await self.gateway.drain(server.drain)

    async def _close_ports(self) -> None:
        """Let go of the public port, and of the admin port if a successor shares it."""
        self.on_closing()
        if self._offer is not None:
            self._offer.close()
        await self._port.stop()
        if self._admin is not None and shares_admin_port(self._config, self._manager):
            await self._admin.close()

    async def _let_arrive(self) -> None:
        """Begin the requests of those who have just connected: at the end aiohttp discards what it has not read."""
        try:
            async with asyncio.timeout(ARRIVING):
                await self._guard.heads()
        except TimeoutError:
            return

    async def _delay(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._skip_delay.wait()
        except TimeoutError:
            return

    def stop_now(self) -> None:
        """Start the drain if it has not started, skip its waits, and end all open requests."""
        self._must_stop_now = True
        self.request_stop(skip_delay=True)
        self.gateway.end_all()

    async def stop(self) -> None:
        if self._offer is not None:
            self._offer.close()
        await self._port.stop()
        self._passed.close()
        await self._public.cleanup()
        await self.reloads.close()
        await self.gateway.close()
        if self._admin is not None:
            await self._admin.close()
        self._logger.info("stopped")

    def _check_descriptors(self) -> None:
        """Raise the soft limit of open files to one for each connection; log if the hard limit is too low."""
        needed = descriptors_needed(self._config)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < needed <= hard or hard == resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
        elif hard < needed:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            self._logger.warning(
                "few_file_descriptors",
                limit=hard,
                needed=needed,
                message="Raise the limit of open files (ulimit -n, LimitNOFILE=) or lower max_connections.",
            )
