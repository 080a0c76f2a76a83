"""The connections of clients that are open: their number, their deadlines, and why they are closed."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from gateway.config import ServerSettings
from gateway.errors import GatewayError
from gateway.http.forwarded import is_trusted
from gateway.telemetry.logs import Logger
from gateway.telemetry.repeats import Repeats

LOOK_EVERY = 4  # ticks: a second, between two looks at what takes seconds to be wrong


class Guarded(Protocol):
    """A connection as the guard sees it: of a client, or one that is about to become that.

    Attributes:
        address: of the client; `site`: what it counts for.
        head_due: monotonic seconds, infinite while no head is awaited.
        late: why it is closed if that has passed.
    """

    address: str
    site: str
    head_due: float
    late: str

    def abort(self) -> None: ...

    def close(self) -> None: ...


class Watched(Guarded, Protocol):
    """A connection of a client, while something may go wrong with an answer."""

    def look(self, now: float, send_timeout: float) -> str | None:
        """Called each second, also to let go of what a long answer does not need.

        Returns why it is to be closed, which is empty if nothing is wrong yet; None if nothing can be, so that it needs
        no look until it is watched again. `now`: monotonic seconds.
        """


class ConnectionGuard:
    """Counts connections; closes excess, slow and stalled ones. Times are monotonic seconds.

    `count_unparsable` is called for each request that cannot be parsed, `count_closed` with the reason for each
    connection that is closed.

    Attributes:
        log: for lines about connections, of which a client can cause any number.
        awaiting: connections that may be about to send a head. A deadline that is set later is found only in here.
        watched: connections that are looked at each second. Thousands of streams that wait for an event cost nothing.
    """

    def __init__(
        self,
        settings: ServerSettings,
        logger: Logger,
        count_unparsable: Callable[[], None],
        count_closed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._logger = logger
        self.log = Repeats(logger)
        self._ticks = 0
        self._count_unparsable = count_unparsable
        self._count_closed = count_closed
        self._open: set[Guarded] = set()
        self.awaiting: set[Guarded] = set()
        self.watched: set[Watched] = set()
        self._by_site: Counter[str] = Counter()
        self.arrived: asyncio.Future[None] | None = None  # set while the port is closed and heads are awaited

    def __len__(self) -> int:
        return len(self._open)

    def use(self, settings: ServerSettings) -> None:
        """Follow a new configuration; connections above a smaller limit stay open."""
        self._settings = settings

    def opened(self, connection: Guarded, before: Guarded | None = None) -> None:
        """Register a connection, in the place of one that was `before`; close it if there are too many."""
        settings = self._settings
        self._open.add(connection)
        self.awaiting.add(connection)
        self._by_site[connection.site] += 1
        if before is not None:
            before.close()
        if len(self._open) > settings.max_connections:
            self._close(connection, "max_connections")
        elif self._by_site[connection.site] > settings.max_connections_per_address and not is_trusted(
            connection.address, settings.trusted_proxies
        ):
            self._close(connection, "max_connections_per_address")

    def closed(self, connection: Guarded) -> None:
        for connections in (self._open, self.awaiting, self.watched):
            connections.discard(connection)
        self._by_site[connection.site] -= 1
        if not self._by_site[connection.site]:
            del self._by_site[connection.site]
        if self.arrived is not None:
            self.head_came()

    async def heads(self) -> None:
        """Wait until no open connection is about to send a request; those between two requests do not count."""
        loop = asyncio.get_running_loop()
        self.arrived = loop.create_future()
        loop.call_soon(self.head_came)  # not now: what was accepted in this iteration is opened in the next
        await self.arrived

    def head_came(self) -> None:
        if self.arrived is None or self.arrived.done():
            return
        if all(math.isinf(connection.head_due) for connection in self.awaiting):
            self.arrived.set_result(None)

    def tick(self, now: float) -> None:
        """Close connections with an overdue request head, a stalled response, or too much behind an open one."""
        self.log.tick(now)
        self._ticks += 1
        late = [each for each in self.awaiting if each.head_due <= now]
        for connection in late:
            self._close(connection, connection.late)
        if self._ticks % LOOK_EVERY == 0:
            send_timeout = self._settings.timeouts.send
            for connection in self.watched.difference(late):
                reason = connection.look(now, send_timeout)
                if reason is None:
                    self.watched.discard(connection)
                elif reason:
                    self._close(connection, reason)

    def unparsable(
        self, connection: Guarded, request_id: str, error: BaseException | None, answer: GatewayError
    ) -> None:
        """Log a request that aiohttp could not parse or answer, without its bytes; count those without an exchange.

        `answer` is what the client gets.
        """
        if answer.status < 500:
            self._count_unparsable()
        self._logger.warning(
            "unparsable_request",
            request_id=request_id,
            client=connection.address,
            error=None if error is None else type(error).__name__,
            reason=answer.message,
        )

    def _close(self, connection: Guarded, reason: str) -> None:
        self._count_closed(reason)
        site, address = connection.site, connection.address
        self.log("connection_closed", reason, site, monotonic(), reason=reason, client=address)
        connection.abort()
