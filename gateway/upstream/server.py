"""One server of an upstream: where it is, its two connection pools, and whether it may be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gateway.causes import Cause
from gateway.config import Url
from gateway.upstream.balance import Lot
from gateway.upstream.connection import Connection, UnansweredError
from gateway.upstream.headers import Addressed
from gateway.upstream.large_reads import LargeReads
from gateway.upstream.pool import Place, Pool, PoolSettings
from gateway.upstream.standing import Standing

MAX_SHORT = 100  # connections for the gateway's own requests: an abort does not wait for a run to end


class Identity(NamedTuple):
    """What makes two servers the same one: their connections lead to the same place in the same way.

    Attributes:
        url: as configured.
        authority: the SHA-256 of the certificates that it is verified with; empty: those of the system, or no TLS.
        address: one of the host's addresses; empty: any.
        proxy: through which it is connected to; empty: none.
    """

    url: Url
    authority: str = ""
    address: str = ""
    proxy: str = ""

    @property
    def origin(self) -> str:
        """Host, port and path as configured: what conversations belong to."""
        return self._origin(self.url.host)

    @property
    def met_at(self) -> str:
        """The same with the address, which another name may have too."""
        return self._origin(self.address) if self.address else self.origin

    def _origin(self, host: str) -> str:
        return f"{Place(host.lower(), self.url.port)}{self.url.prefix}"


class ServerOptions(NamedTuple):
    """What may change while a server keeps its connections."""

    pool: PoolSettings
    weight: int
    addressed: Addressed


class Server:
    """Open until `close`. After `drain` each connection closes when its request is over."""

    def __init__(
        self,
        identity: Identity,
        place: Place,
        settings: ServerOptions,
        on_connect: Callable[[float], None] = lambda _: None,
        reads: LargeReads | None = None,
    ) -> None:
        """`on_connect`: called with the seconds that a connection for relayed requests took. `reads`: as for `Pool`."""
        self.identity = identity
        self.place = place
        self.label = str(place)  # host and port as configured, for metrics and log
        self.standing = Standing()
        self.pool = Pool(place, settings.pool, on_connect, reads)
        self.short = Pool(place, _of_short(settings.pool), reads=reads)
        self.adopt(settings)
        self.is_checked = False  # a check is under way
        self.check_at = 0.0  # monotonic seconds

    def __repr__(self) -> str:
        return f"<Server {self.identity.met_at} {'up' if self.standing.is_up else 'down'}>"

    @property
    def busy(self) -> int:
        """Relayed requests that are open."""
        return self.pool.busy

    def adopt(self, settings: ServerOptions) -> None:
        """Follow a new configuration; open connections stay."""
        self.lot = Lot(self.identity.met_at, settings.weight)
        self.addressed = settings.addressed
        self.pool.use(settings.pool)
        self.short.use(_of_short(settings.pool))

    def sweep(self, now: float) -> None:
        """Close idle connections that the server is about to close. `now`: monotonic seconds."""
        self.pool.sweep(now)
        self.short.sweep(now)

    def drain(self) -> None:
        self.pool.drain()
        self.short.drain()

    @property
    def is_drained(self) -> bool:
        """Whether `drain` has ended: no connection is left."""
        return self.pool.is_drained and self.short.is_drained

    def close(self) -> None:
        self.pool.close()
        self.short.close()


def _of_short(pool: PoolSettings) -> PoolSettings:
    return PoolSettings(MAX_SHORT, pool.connect_timeout, pool.max_age, pool.keepalive)


class Pinned:
    """This server and no other, whatever happens there: for an abort, whose run is there, and for a check.

    What becomes of the request shows nothing that counts for others.
    """

    def __init__(self, server: Server) -> None:
        self.server = server

    def take_idle(self) -> Connection | None:
        return self.server.short.take_idle()

    async def connect(self, *, fresh: bool = False) -> Connection:
        return await self.server.short.acquire(fresh=fresh)

    def may_repeat(self, unanswered: UnansweredError) -> bool:
        return unanswered.is_stale

    def answered(self, status: int) -> None:
        pass

    def lost(self, cause: Cause) -> None:
        pass

    def gave_up(self) -> None:
        pass
