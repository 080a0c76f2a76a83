"""The admin listener as a port that opens and closes, in whichever process owns it."""

from __future__ import annotations

from aiohttp import web

from gateway.config import Address, AdminSettings
from gateway.handlers.admin import Exposition, Readiness, admin_app
from gateway.server.listener import library_logger
from gateway.server.sockets import open_site
from gateway.telemetry.logs import Logger

FORCED = 1.0  # seconds that aiohttp waits, twice, for a scrape that is under way


class AdminListener:
    """From `open` to `close`."""

    def __init__(
        self, settings: AdminSettings, exposition: Exposition, readiness: Readiness, logger: Logger
    ) -> None:
        self._settings = settings
        self._runner = web.AppRunner(
            admin_app(exposition, readiness, settings.token.get_secret_value()),
            access_log=None,
            logger=library_logger(logger),
            shutdown_timeout=FORCED,
        )

    @property
    def address(self) -> Address:
        """Where it really listens."""
        where = self._runner.addresses[0]
        return Address(where[0], where[1])

    async def open(self) -> None:
        """Listen.

        Raises:
            CannotListenError: it cannot.
        """
        await self._runner.setup()
        await open_site(self._runner, self._settings.listen)

    async def close(self) -> None:
        """Listen no more."""
        await self._runner.cleanup()
