"""The life of the process: listen, serve until a signal comes, drain, end.

SIGTERM and SIGINT begin the drain, in this order: `/readyz` says 503; the port stays open for `drain_delay`, so
that balancers notice; the port closes; open streams may finish within `drain`; the others are told by an `error`
and an `end` of Flowise's shape. A second signal ends the wait.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Callable

from aiohttp import web

from gateway.app import Gateway
from gateway.config import Address, Config
from gateway.handlers.admin import admin_app
from gateway.listener import Guard, Listener, ListenerPlan, library_logger
from gateway.telemetry.logs import Logger

BACKLOG = 4096
OWN_DESCRIPTORS = 64
FORCED = 1.0  # seconds that aiohttp waits, twice, for handlers that are left after the drain


class CannotListenError(Exception):
    """An address is taken or not ours; the message says which."""


class Process:
    """One gateway with its two listeners, from `start` to `stop`."""

    def __init__(self, config: Config, logger: Logger) -> None:
        self._config = config
        self._logger = logger
        self._guard = Guard(config.server, logger)
        self.gateway = Gateway(config, logger)
        self._listener = Listener(self.gateway.handle, ListenerPlan(config.server, self._guard, logger))
        self._public = web.ServerRunner(self._listener, shutdown_timeout=FORCED)
        self._admin = web.AppRunner(
            admin_app(
                self.gateway.metrics,
                lambda: self.gateway.is_ready,
                config.admin.token.get_secret_value(),
            ),
            access_log=None,
            logger=library_logger(logger),
            shutdown_timeout=FORCED,
        )
        self._site: web.TCPSite | None = None
        self._is_hurried = asyncio.Event()

    @property
    def addresses(self) -> tuple[Address, Address]:
        """Where the public and the admin listener really listen (port 0 in the configuration: any)."""
        public, admin = self._public.addresses[0], self._admin.addresses[0]
        return Address(public[0], public[1]), Address(admin[0], admin[1])

    async def start(self) -> None:
        """Open both ports.

        Raises:
            CannotListenError: one of them cannot be opened.
        """
        self.gateway.watch(self._guard.tick)
        await self.gateway.start()
        self._check_descriptors()
        await self._admin.setup()
        await self._open(self._admin, self._config.admin.listen)
        await self._public.setup()
        self._site = await self._open(self._public, self._config.server.listen)
        self.gateway.is_ready = True
        public, admin = self.addresses
        self._logger.info("listening", public=str(public), admin=str(admin))

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
        self._is_hurried.set()
        self.gateway.end_all()

    async def stop(self) -> None:
        """Close everything."""
        await self._public.cleanup()
        await self.gateway.close()
        await self._admin.cleanup()
        self._logger.info("stopped")

    async def _open(self, runner: web.BaseRunner, address: Address) -> web.TCPSite:
        site = web.TCPSite(runner, address.host, address.port, backlog=BACKLOG)
        try:
            await site.start()
        except OSError as error:
            number = error.errno or 0  # uvloop wraps the words of these; a resolver's numbers are below 0
            reason = os.strerror(number) if number > 0 else error.strerror
            raise CannotListenError(f"cannot listen on {address}: {reason}") from error
        return site

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._is_hurried.wait()
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
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            process.hurry()
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await process.start()
        announce(process)
        await stopping.wait()
        await process.drain()
    finally:
        await process.stop()
