"""The life of the process: listen, serve until a signal comes, drain, end.

SIGTERM and SIGINT begin the drain, in this order: `/readyz` says 503; the port stays open for `drain_delay`, so
that balancers notice; the port closes; open streams may finish within `drain`; the others are told by an `error`
and an `end` of Flowise's shape. A second signal ends the wait.
"""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Callable

from aiohttp import web

from gateway.app import Gateway
from gateway.auth.keys_model import KeyEntry
from gateway.config import Address, Config
from gateway.server.admin import AdminListener
from gateway.server.listener import ConnectionGuard, Listener, ListenerPlan
from gateway.server.sockets import open_site
from gateway.telemetry.logs import Logger

OWN_DESCRIPTORS = 64
FORCED = 1.0  # seconds that aiohttp waits, twice, for handlers that are left after the drain


class Process:
    """One gateway with its two listeners, from `start` to `stop`; `run` is its whole life.

    A worker shares the public port with others, and has no admin listener: that is its parent's.
    """

    def __init__(
        self,
        config: Config,
        logger: Logger,
        *,
        is_worker: bool = False,
        known_keys: tuple[KeyEntry, ...] | None = None,
    ) -> None:
        self._config = config
        self._logger = logger
        self._guard = ConnectionGuard(config.server, logger)
        self.gateway = Gateway(config, logger, known_keys)
        self._listener = Listener(self.gateway.handle, ListenerPlan(config.server, self._guard, logger))
        self._public = web.ServerRunner(self._listener, shutdown_timeout=FORCED)
        self._admin = None if is_worker else self._admin_listener()
        self._site: web.TCPSite | None = None
        self._is_ending = asyncio.Event()
        self._is_delay_over = asyncio.Event()

    def _admin_listener(self) -> AdminListener:
        return AdminListener(
            self._config.admin,
            self.gateway.metrics.exposition,
            lambda: "" if self.gateway.is_ready else "draining",
            self._logger,
        )

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the public and the admin listener, if it has one, really listen (port 0 in the configuration: any)."""
        public = self._public.addresses[0]
        return Address(public[0], public[1]), *([self._admin.address] if self._admin else [])

    @property
    def is_ending(self) -> bool:
        """Whether it was told to end."""
        return self._is_ending.is_set()

    async def run(self, announce: Callable[[Process], None]) -> None:
        """Serve until `end`, then drain. `announce` is called once it listens.

        Raises:
            CannotListenError: one of the ports cannot be opened.
        """
        try:
            await self.start()
            announce(self)
            await self._is_ending.wait()
            await self.drain()
        finally:
            await self.stop()

    async def start(self) -> None:
        """Open both ports.

        Raises:
            CannotListenError: one of them cannot be opened.
        """
        self.gateway.watch(self._guard.tick)
        await self.gateway.start()
        self._check_descriptors()
        if self._admin is not None:
            await self._admin.open()
        await self._public.setup()
        is_shared = self._admin is None
        self._site = await open_site(self._public, self._config.server.listen, is_shared=is_shared)
        self.gateway.is_ready = True

    def end(self, *, at_once: bool = False) -> None:
        """Begin the drain. `at_once`: the port closes now, whatever `drain_delay` says."""
        if at_once:
            self._is_delay_over.set()
        self._is_ending.set()

    async def drain(self) -> None:
        """Let what is open finish, tell the rest."""
        server = self._config.server
        self.gateway.is_ready = False
        self._logger.info("draining", delay_s=server.drain_delay, drain_s=server.drain)
        await self._wait(server.drain_delay)
        if self._site is not None:
            await self._site.stop()
        await self.gateway.drain(server.drain)

    def hurry(self) -> None:
        """Wait no longer: end what is open now."""
        self._is_delay_over.set()
        self.gateway.end_all()

    async def stop(self) -> None:
        """Close everything."""
        await self._public.cleanup()
        await self.gateway.close()
        if self._admin is not None:
            await self._admin.close()
        self._logger.info("stopped")

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._is_delay_over.wait()
        except TimeoutError:
            return

    def _check_descriptors(self) -> None:
        """Each client and each connection to Flowise is a file descriptor: ask for enough, or say so."""
        config = self._config
        needed = config.server.max_connections + OWN_DESCRIPTORS
        needed += sum(upstream.max_connections for upstream in config.upstreams.values())
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < needed <= hard or hard == resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
        elif hard < needed:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            self._logger.warning(
                "few_file_descriptors",
                limit=hard,
                needed=needed,
                message="raise the limit of open files (ulimit -n, LimitNOFILE=) or lower max_connections",
            )


async def serve(config: Config, logger: Logger, announce: Callable[[Process], None] = lambda _: None) -> None:
    """Run the gateway until it is told to stop. `announce` is called once it listens."""
    process = Process(config, logger)

    def on_signal() -> None:
        if process.is_ending:
            process.hurry()
        process.end()

    def on_listening(process: Process) -> None:
        public, admin = process.addresses
        logger.info("listening", public=str(public), admin=str(admin))
        announce(process)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await process.run(on_listening)
