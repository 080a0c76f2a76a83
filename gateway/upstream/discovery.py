"""The addresses of the names of an upstream's servers (`discover: dns`), looked up again every 10 s."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.causes import NO_NAME, TIMED_OUT, Cause, cause_of
from gateway.config import UpstreamServer
from gateway.connecting import look_up
from gateway.upstream.pool import Place
from gateway.upstream.server import Server
from gateway.upstream.server_reports import ServerReports
from gateway.upstream.servers import Servers

EVERY = 10.0  # seconds
WITHIN = 5.0  # seconds, for one name
START_WITHIN = 2.0  # seconds that the start of the gateway waits for the first addresses


class Discovery:
    """Keeps `servers` to what the names stand for. A name that cannot be looked up keeps the addresses that it had."""

    def __init__(
        self,
        entries: Sequence[UpstreamServer],
        servers: Servers,
        make: Callable[[UpstreamServer, str], Server],
        reports: ServerReports,
    ) -> None:
        """`make`: a server for an address of an entry, or the one that there is."""
        self._entries = entries
        self._servers = servers
        self._make = make
        self._reports = reports
        self._found: dict[UpstreamServer, dict[str, Server]] = {entry: {} for entry in entries}
        self._failures: dict[UpstreamServer, Cause] = {}
        self._is_running = self._is_stopped = False
        self._next = 0.0  # monotonic seconds

    def begin_with(self, known: Sequence[Server]) -> None:
        """Use these until the first look-up has ended."""
        for server in known:
            for entry, found in self._found.items():
                if entry.url == server.identity.url and server.identity.address:
                    found[server.identity.address] = self._make(entry, server.identity.address)
        self._apply()

    async def begin(self, now: float, seconds: float) -> None:
        """The first look-up, for at most so long; what has not been found then is found later."""
        try:
            async with asyncio.timeout(seconds):
                await self.run(now)
        except TimeoutError:
            self._next = now

    def stop(self) -> None:
        """Change nothing any more: another one keeps the servers, some of which are the same."""
        self._is_stopped = True

    def is_due(self, now: float) -> bool:
        """Whether it is time for `run`. `now`: monotonic seconds."""
        return not self._is_running and now >= self._next

    async def run(self, now: float) -> None:
        """Look up every name."""
        self._is_running, self._next = True, now + EVERY
        try:
            for entry in self._entries:
                await self._look_up(entry)
        finally:
            self._is_running = False

    async def _look_up(self, entry: UpstreamServer) -> None:
        label, cause = str(Place(entry.url.host, entry.url.port)), NO_NAME
        addresses: set[str] = set()
        try:
            async with asyncio.timeout(WITHIN):
                infos = await look_up(entry.url.host, entry.url.port)
            addresses = {str(info[4][0]) for info in infos}
        except TimeoutError:
            cause = TIMED_OUT
        except (OSError, UnicodeError) as error:
            cause = cause_of(error)
        if self._is_stopped:
            return
        if addresses:
            self._failures.pop(entry, None)
            self._follow(entry, label, addresses)
            return
        self._servers.none_because(cause)
        if self._failures.get(entry) != cause:
            self._failures[entry] = cause
            self._reports.without_address(label, cause, is_known=bool(self._found[entry]))

    def _follow(self, entry: UpstreamServer, label: str, addresses: set[str]) -> None:
        known = self._found[entry]
        if addresses == known.keys():
            return
        self._reports.addresses(label, addresses - known.keys(), known.keys() - addresses)
        self._found[entry] = {
            address: known.get(address) or self._make(entry, address) for address in sorted(addresses)
        }
        self._apply()

    def _apply(self) -> None:
        """One server for each place, although two names may have the same address."""
        places: dict[str, Server] = {}
        for found in self._found.values():
            for server in found.values():
                places.setdefault(server.identity.met_at, server)
        self._servers.replace(places.values())
