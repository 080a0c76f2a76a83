"""The server of one request, from the choice to what the request has shown of it.

It moves to another server only while nothing can have happened twice: there was no connection. Once a byte of a request
was written there is one exception, a GET or HEAD whose connection closed before one byte came back.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.causes import NO_DESCRIPTORS, TIMED_OUT, Cause
from gateway.errors import UpstreamTimeout, UpstreamUnreachable
from gateway.upstream.connection import Connection, UnansweredError
from gateway.upstream.server import Server

UNAVAILABLE = frozenset(
    {502, 503, 504}
)  # of a proxy before a server that is down, or of a server that takes no more
NO_HEAD = Cause("head", "no response head in time")


class Connector(Protocol):
    """Gets the connections of one request, and hears how it went: the first of the last three counts."""

    server: Server

    def take_idle(self) -> Connection | None:
        """A connection to `server` that is open and can take a request now."""

    async def connect(self, *, fresh: bool = False) -> Connection:
        """A connection to `server`, which may be another one afterwards. Raises as `Pool.acquire`."""

    def may_repeat(self, unanswered: UnansweredError) -> bool:
        """Whether the request may be sent once more, by `connect` with `fresh`."""

    def answered(self, status: int) -> None:
        """The head of the response has arrived."""

    def lost(self, cause: Cause) -> None:
        """The request was sent, and there will be no head."""

    def gave_up(self) -> None:
        """It ended without showing anything of the server."""


class Pickable(Protocol):
    """What a choice is made from."""

    connect_timeout: float

    def pick(self, chat_id: str | None, tried: tuple[Server, ...] = ()) -> tuple[Server, bool]:
        """A server that was not tried, and whether this request is the one that tries if it works again.

        Raises:
            UpstreamUnreachable: there is none.
        """

    def has_another(self, tried: tuple[Server, ...]) -> bool:
        """Whether `pick` would find one."""

    def succeeded(self, server: Server, *, is_trial: bool) -> None:
        """A request got an answer there."""

    def failed(self, server: Server, cause: Cause, *, is_trial: bool) -> None:
        """A request got none."""

    def moved(self, cause: Cause) -> None:
        """A request goes to another server because of this."""


class Choice:
    """Made for one request, by its conversation where it has one.

    Raises:
        UpstreamUnreachable: no server is up, and another request tries one.
    """

    __slots__ = ("_chat_id", "_is_reported", "_is_short", "_is_trial", "_servers", "_tried", "server")

    def __init__(self, servers: Pickable, chat_id: str | None, *, is_short: bool = False) -> None:
        """`is_short`: of the gateway's own, which has connections of its own."""
        self._servers = servers
        self._chat_id = chat_id
        self._is_short = is_short
        self._is_reported = False
        self._tried: tuple[Server, ...] = ()
        self.server, self._is_trial = servers.pick(chat_id)

    def take_idle(self) -> Connection | None:
        return (self.server.short if self._is_short else self.server.pool).take_idle()

    async def connect(self, *, fresh: bool = False) -> Connection:
        """A connection to the server, or to the next one for as long as there is none.

        One that does not accept has half of the time that is left, if there is another; the last one has all of it.

        Raises:
            Overloaded: all connections to the server stayed busy.
            UpstreamUnreachable: no server could be connected to.
            UpstreamTimeout: none accepted in time.
        """
        deadline = asyncio.get_running_loop().time() + self._servers.connect_timeout
        while True:
            share = 0.5 if self._servers.has_another((*self._tried, self.server)) else 1.0
            try:
                pool = self.server.short if self._is_short else self.server.pool
                return await pool.acquire(fresh=fresh, deadline=deadline, share=share)
            except UpstreamUnreachable as error:
                if not self._move_on(error.cause):
                    raise
            except UpstreamTimeout:
                if not self._move_on(TIMED_OUT):
                    raise

    def may_repeat(self, unanswered: UnansweredError) -> bool:
        """Once more on the same server, if it may only have closed an idle connection; else on another one."""
        return unanswered.is_stale or self._move_on(unanswered.cause)

    def answered(self, status: int) -> None:
        if status in UNAVAILABLE:
            self.lost(Cause("status", f"status {status}"))
        elif not self._is_reported:
            self._is_reported = True
            self._servers.succeeded(self.server, is_trial=self._is_trial)

    def lost(self, cause: Cause) -> None:
        if not self._is_reported:
            self._is_reported = True
            self._servers.failed(self.server, cause, is_trial=self._is_trial)

    def gave_up(self) -> None:
        if not self._is_reported:
            self._is_reported = True
            if self._is_trial:
                self.server.standing.not_tried()

    def _move_on(self, cause: Cause) -> bool:
        """Count the failure, and choose another server. Returns whether there is one."""
        if cause is NO_DESCRIPTORS:  # ours, not the server's
            return False
        self.lost(cause)
        self._tried = (*self._tried, self.server)
        if not self._servers.has_another(self._tried):
            return False
        self.server, self._is_trial = self._servers.pick(self._chat_id, self._tried)
        self._is_reported = False
        self._servers.moved(cause)
        return True
