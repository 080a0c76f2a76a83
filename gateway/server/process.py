"""One gateway process: listen, serve until a signal, drain, stop.

SIGTERM and SIGINT start the drain, in this order: `/readyz` turns 503; the port stays open for `drain_delay`, so that
load balancers notice; the port closes; open streams may finish within `drain`; the remaining ones are ended with an
`error` and an `end` event. A second signal, or SIGQUIT, skips the waiting. `server/signals.py` has all others.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

from msgspec import Struct

from gateway.aio import Tasks
from gateway.app import Gateway, Prepared
from gateway.auth.keys_model import ApiKey
from gateway.command_errors import CannotRunError
from gateway.config import Address, Config, ListenAddress
from gateway.page.feed import Feed
from gateway.server.admin import AdminAnswers, AdminListener
from gateway.server.descriptors import raise_limit
from gateway.server.guard import ConnectionGuard
from gateway.server.handover import Given, Offer, Passed, may_hand_over, passed_ports, shares_admin_port
from gateway.server.handshakes import TlsAcceptor
from gateway.server.listener import Listener
from gateway.server.memory import return_large_blocks
from gateway.server.page_process import OneProcess
from gateway.server.reload import FIXED, CannotApplyError, Reloads, Source
from gateway.server.service_manager import Systemd
from gateway.server.signals import handle_signals
from gateway.server.sockets import PUBLIC, Port
from gateway.server.tls import Certificate, CertificateError, Loaded, Reports
from gateway.telemetry.logs import Logger, LogOutput

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
    manager = manager or Systemd.none()
    manager.log_to(logger)
    process = Process(config, logger, output=output, source=source, manager=manager)

    def on_drain() -> None:
        if process.is_stopping:
            process.stop_now()
        process.request_stop()

    def on_listening(process: Process) -> None:
        public = ", ".join(map(str, process.addresses))
        output.listening(logger, public, str(process.admin_address))
        manager.ready(public, process.admin_address)
        announce(process)

    def on_hangup() -> None:
        output.reopen()
        process.reloads.request()

    handle_signals(on_drain, process.stop_now, on_hangup, logger)
    await process.run(on_listening)


class Ready(Struct, frozen=True):
    """Another configuration that can be served: `Process.commit` cannot fail."""

    gateway: Prepared
    certificate: Loaded | None


class FromParent(Struct, frozen=True):
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
        self._config, self._logger = config, logger
        self.reloads = Reloads(source, config, self, logger, manager)
        self.gateway = Gateway(config, logger, None if parent is None else parent.keys)
        counts = self.gateway.count_unparsable, self.gateway.metrics.connection_closed
        self._guard = ConnectionGuard(config.server, logger, *counts)
        self._listener = Listener(self.gateway.handle, config.server, self._guard, logger, self.gateway.reads)
        self._manager = manager or Systemd.none()
        self._certificate = self._followed_certificate()
        self._acceptor = self._tls_acceptor() if config.server.tls.is_on else None
        self._passed = Passed()
        self._given: Sequence[socket.socket] = () if parent is None else parent.sockets
        self._port = Port(config.server.listen)
        self._admin = None if parent is not None else self._admin_listener()
        self._offer: Offer | None = None
        self.on_closing: Callable[[], None] = lambda: None  # called when no more connections are accepted
        self._output = output
        self._lost_lines = 0  # that are counted
        self._stop_requested, self._skip_delay = asyncio.Event(), asyncio.Event()
        self._must_stop_now = False

    def _followed_certificate(self) -> Certificate:
        metrics, logger = self.gateway.metrics, self._logger
        tasks = Tasks(lambda error: logger.error("bug", error=repr(error), exc_info=error))
        reports = Reports(metrics.reloaded, metrics.certificate_expires)
        return Certificate(self._config.server.tls, tasks, logger, reports)

    def _tls_acceptor(self) -> TlsAcceptor:
        def context() -> ssl.SSLContext:
            return self._certificate.context

        count = self.gateway.metrics.handshake
        return TlsAcceptor(self._listener, self._guard, context, count, self._logger)

    def _admin_listener(self) -> AdminListener:
        gateway, reloads = self.gateway, self.reloads
        observed = OneProcess(gateway.sampling, gateway.metrics, reloads, self._not_ready)
        feed = Feed(observed, self._logger, is_on=self._config.admin.page)
        answers = AdminAnswers(gateway.metrics.exposition, self._not_ready, reloads.described, feed)
        return AdminListener(self._config.admin, answers, self._logger)

    def _not_ready(self) -> str:
        return "" if self.gateway.is_ready else "draining"

    @property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """The bound addresses of the public port."""
        return self._port.addresses

    @property
    def admin_address(self) -> Address:
        """That of the admin port, which a worker has not."""
        if self._admin is None:
            raise AssertionError("the parent has the admin port")
        return self._admin.address

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
            CannotRunError: its certificate cannot be used.
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
        self.gateway.watch(self._certificate.tick)
        await self.gateway.start()
        try:
            await self._certificate.start()
        except CertificateError as error:
            raise CannotRunError(f"The certificate of server.tls cannot be used: {error}.") from None
        raise_limit(self._config, self._logger)
        await self._open_ports()

    async def _open_ports(self) -> None:
        """Bind both ports before one accepts; the admin port last, because it answers for this process then."""
        config, admin = self._config, self._admin
        if admin is not None:
            self._passed = await passed_ports(config, self._manager)
            await admin.reserve(self._passed.admin)
        server, given = config.server, self._given
        if self._manager.passed.public:
            given = self._passed.common
        self._port = Port(server.listen, PUBLIC, given, mode=server.socket_mode, is_shared=server.handover)
        await self._port.open([*chain.from_iterable(self._passed.public), *self._passed.common])
        await self._port.serve(self._listener, None if self._acceptor is None else self._acceptor.open)
        self.gateway.is_ready = True
        if admin is not None:
            await admin.open()
            if may_hand_over(config, self._manager):
                self._offer_to_successor(admin)
        self.reloads.open()

    def _offer_to_successor(self, admin: AdminListener) -> None:
        first, port = self._config.server.listen[0], self._port
        if isinstance(first, Address):
            first = Address(first.host, port.sockets[0].getsockname()[1])
        given = Given(
            first,
            lambda: [port.of_one_process],
            self._config.admin.listen,
            lambda: admin.sockets,
            lambda: port.common,
        )
        self._offer = Offer(given, self._give_way, self._logger)
        self._offer.open(self._passed)

    def _give_way(self) -> None:
        """A successor serves: drain without waiting for load balancers."""
        self._port.keep_files()
        self.request_stop(skip_delay=True)

    # -- another configuration ---------------------------------------------------------------------

    async def apply(self, config: Config) -> None:
        """Serve this from now on; for `reloads`."""
        self.commit(await self.prepare(config))

    async def prepare(self, config: Config, known_keys: tuple[ApiKey, ...] | None = None) -> Ready:
        """Do all that can fail on the way to another configuration; nothing changes yet.

        Raises:
            ConfigError: its keys file has mistakes.
            CannotApplyError: it cannot be served, or the process is stopping.
        """
        try:
            certificate = await self._certificate.prepare(config.server.tls)
            prepared = Ready(await self.gateway.prepare(config, known_keys), certificate)
        except OSError as error:
            raise CannotApplyError(f"cannot read {error.filename}: {error.strerror}") from error
        except CertificateError as error:
            raise CannotApplyError(f"cannot use the certificate: {error}") from error
        if self.is_stopping:
            await self.abandon(prepared)
            raise CannotApplyError("is shutting down")
        return prepared

    async def abandon(self, prepared: Ready) -> None:
        """Close what was opened for it."""
        await self.gateway.abandon(prepared.gateway)

    def commit(self, prepared: Ready) -> None:
        """Serve this configuration from now on, in one step."""
        self._config = config = prepared.gateway.serving.config
        self.gateway.commit(prepared.gateway)
        self._certificate.adopt(prepared.certificate)
        self._guard.use(config.server)
        self._listener.use(config.server)
        if self._admin is not None:
            self._admin.use(config.admin)
        if self._output is not None:
            self._output.use(config.logs)
        raise_limit(self._config, self._logger)

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
        if self._acceptor is not None:
            self._acceptor.stop()
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
        if self._acceptor is not None:
            await self._acceptor.close()
        await self._certificate.close()
        await self._listener.close(SHUTDOWN_TIMEOUT)
        await self.reloads.close()
        await self.gateway.close()
        if self._admin is not None:
            await self._admin.close()
        self._guard.log.close()
        self._logger.info("stopped")
