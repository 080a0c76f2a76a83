"""Checks of the servers of an upstream: a short request to each, again and again (`health`)."""

from __future__ import annotations

from gateway.aio import Tasks
from gateway.causes import NO_DESCRIPTORS
from gateway.config import HealthSettings
from gateway.errors import Overloaded, UpstreamBadReply, UpstreamTimeout, UpstreamUnreachable
from gateway.upstream.headers import UpstreamRequest, own_fields
from gateway.upstream.server import Pinned, Server
from gateway.upstream.servers import Servers
from gateway.upstream.short_request import send_short

REQUEST_ID = "health"
MAX_REPLY = 64 * 1024  # bytes
_LOWEST_FAILURE = 500  # of the status; what is below was answered by a Flowise that works


class Checks:
    """Of the servers of one upstream."""

    def __init__(self, settings: HealthSettings, servers: Servers) -> None:
        self._settings = settings
        self._servers = servers
        identity = own_fields({"X-Request-ID": REQUEST_ID})
        self._request = UpstreamRequest("GET", settings.path.encode(), identity)

    def tick(self, now: float, tasks: Tasks) -> None:
        """Begin the checks that are due; the first one of a server after `every`. `now`: monotonic seconds."""
        if not self._settings.every:
            return
        for server in self._servers:
            if not server.check_at:
                server.check_at = now + self._settings.every
            elif now >= server.check_at and not server.is_checked:
                server.check_at = now + self._settings.every
                tasks.start(self._check(server), "check")

    async def _check(self, server: Server) -> None:
        server.is_checked = True
        try:
            failure = await self._failure(server)
        finally:
            server.is_checked = False
        if failure is not None:
            self._servers.checked(server, failure)

    async def _failure(self, server: Server) -> str | None:
        """What is wrong with the server; empty: nothing, None: that could not be found out."""
        try:
            reply = await send_short(Pinned(server), self._request, self._settings.timeout, MAX_REPLY)
        except UpstreamUnreachable as error:
            return None if error.cause is NO_DESCRIPTORS else error.cause.words
        except UpstreamTimeout:
            return "timed out"
        except UpstreamBadReply:
            return "its answer is not valid"
        except Overloaded:
            return None
        return f"status {reply.status}" if reply.status >= _LOWEST_FAILURE else ""
