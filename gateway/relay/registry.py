"""The calls of this process that Flowise has not finished: the coarse timer ticks them, the drain ends them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from gateway.aio import Emptiness
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.upstream.server import Server

SOON = 4.0  # seconds; how often all calls are gone through


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        is_sent: whether Flowise has the whole request.
        first_token_at: in monotonic seconds; None: no token has come.
        tokens: `token` and `thinking` events so far.
    """

    is_sent: bool
    first_token_at: float | None
    tokens: int


class InFlightCall(Protocol):
    """A run or a transfer."""

    exchange: Exchange

    @property
    def server(self) -> Server:
        """The server that it was sent to; while it is not sent, the one that would get it now."""

    @property
    def progress(self) -> Progress | None:
        """Of a run, up to the last byte that has come; None: it is no run."""

    @property
    def is_run(self) -> bool:
        """Whether it is a run."""

    @property
    def has_client(self) -> bool:
        """Whether a client still receives the reply."""

    def tick(self, now: float) -> float:
        """Check deadlines and heartbeats; return when to call it again. Both are monotonic seconds."""

    def abort(self) -> None:
        """Ask Flowise to stop."""

    def terminate(self, error: GatewayError) -> None:
        """End the client's response with this error and abort. What still comes is read for a short while."""

    def close_now(self, error: GatewayError) -> None:
        """End the client's response with this error, abort, close."""


class InFlight:
    """The calls that are open, with and without a client."""

    def __init__(self) -> None:
        # In the order of their beginnings, with the time of the next look at each: thousands of streams that flow would
        # take a tenth of a core otherwise.
        self._open: dict[InFlightCall, float] = {}
        self._soon: dict[InFlightCall, None] = {}  # those of them that may be looked at before `_soon_until`
        self._soon_until = 0.0
        self._idle = Emptiness(self._open)
        self.run_count = 0
        self.is_draining = False

    def __len__(self) -> int:
        return len(self._open)

    def add(self, call: InFlightCall) -> None:
        self._open[call] = 0.0
        self._soon[call] = None
        self.run_count += call.is_run

    def discard(self, call: InFlightCall) -> None:
        if call in self._open:
            del self._open[call]
            self._soon.pop(call, None)
            self.run_count -= call.is_run
        if not self._open:
            self._idle.check()

    def runs(self, *, newest_first: bool = False) -> Iterator[InFlightCall]:
        """The open runs in the order of their beginnings, or in reverse."""
        calls = reversed(self._open) if newest_first else iter(self._open)
        return (call for call in calls if call.is_run)

    def tick(self, now: float) -> None:
        """Check deadlines and heartbeats. `now`: monotonic seconds."""
        if now >= self._soon_until:
            self._soon_until = now + SOON
            self._soon = {call: None for call, due in self._open.items() if due < self._soon_until}
        for call in [call for call in self._soon if self._open[call] <= now]:
            if call in self._open:  # else one before it has ended it
                self._look(call, now)

    def _look(self, call: InFlightCall, now: float) -> None:
        """If it fails, it comes behind the others at the next tick."""
        self._open[call] = math.inf  # unless it asks for a look meanwhile
        again = now
        try:
            again = call.tick(now)
        finally:
            if call in self._open:
                self._schedule(call, min(again, self._open[call]))

    def look_soon(self, call: InFlightCall) -> None:
        """Check it at the next tick: something has begun that the last look at it did not know."""
        if call in self._open:
            self._schedule(call, 0.0)

    def _schedule(self, call: InFlightCall, due: float) -> None:
        self._open[call] = due
        self._soon.pop(call, None)
        if due < self._soon_until:
            self._soon[call] = None

    def begin_drain(self) -> None:
        """From now on a call without a client is aborted."""
        self.is_draining = True
        for call in list(self._open):
            if not call.has_client:
                call.abort()

    async def wait_idle(self) -> None:
        """Wait until no call is open."""
        await self._idle.wait()

    def terminate(self, error: GatewayError, is_meant: Callable[[Exchange], bool]) -> None:
        """Terminate the calls of the exchanges that are meant, each once."""
        for call in list(self._open):
            if call.exchange.terminated_by is None and is_meant(call.exchange):
                call.exchange.terminated_by = error
                call.terminate(error)

    def give_way(self, error: GatewayError, is_meant: Callable[[Exchange], bool]) -> None:
        """Terminate without an abort: a run of another process has the conversation by now."""
        for call in self._open:
            if is_meant(call.exchange):
                call.exchange.may_abort = False
        self.terminate(error, is_meant)

    def server_of(self, is_meant: Callable[[Exchange], bool]) -> Server | None:
        """The server that has the call of this exchange; None: no such call is open in this process."""
        return next((call.server for call in self._open if is_meant(call.exchange)), None)

    def close_all(self, error: GatewayError) -> None:
        """End every call now."""
        for call in list(self._open):
            call.close_now(error)
