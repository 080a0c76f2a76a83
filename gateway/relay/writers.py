"""Two ways to write a body to the client: event by event, or as it comes.

A writer decides what may leave now, and how a response ends whose body broke off.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.flowise.event_filter import EventFilter
from gateway.http.sse import EventBoundaries
from gateway.relay.client import ClientStream
from gateway.upstream.response_parser import BodyEnd


class RawWriter:
    """Writes a body that is no event stream, byte for byte; a broken one is cut."""

    feed_chunk = None

    def __init__(self, client: ClientStream) -> None:
        self._client = client
        self.feed = client.write
        self.tick = client.tick

    def end(self, end: BodyEnd, last: bytes = b"", *, is_complete: bool) -> None:  # noqa: ARG002 - no event
        if end is BodyEnd.CUT:
            self._client.write(last)
            self._client.cut()
        else:
            self._client.finish(last)

    def terminate(self, message: str) -> None:  # noqa: ARG002 - a body has no place for it
        self._client.cut()


class EventStreamWriter:
    """Writes whole events, so that a heartbeat or an error always stands between two of them.

    `error_tail` makes the events that complete a broken stream; `heartbeat`: its bytes, and the seconds of silence
    before it.
    """

    __slots__ = (
        "_beat_at",
        "_boundaries",
        "_client",
        "_error_tail",
        "_filter",
        "_heartbeat",
        "_heartbeat_after",
        "_sent_at",
    )

    def __init__(
        self,
        client: ClientStream,
        error_tail: Callable[[str], bytes],
        *,
        withheld: frozenset[str] = frozenset(),
        heartbeat: tuple[bytes, float] = (b"", 0.0),
    ) -> None:
        self._client = client
        self._error_tail = error_tail
        self._boundaries = EventBoundaries()
        self._filter = EventFilter(withheld) if withheld else None
        self._heartbeat, self._heartbeat_after = heartbeat
        # when something was sent before what waits here or was withheld; None: what came last was sent
        self._sent_at: float | None = None
        self._beat_at: float | None = None  # the last heartbeat, or the first look

    def feed(self, data: bytes) -> None:
        """Write the events that are complete now, in one write."""
        ready = self._boundaries.feed(data)
        if self._filter is not None:
            ready = self._filter.feed(ready)
        if ready:
            self._client.write(ready)
            self._sent_at = None
        elif self._sent_at is None:
            self._sent_at = self._client.last_byte_at

    @property
    def feed_chunk(self) -> Callable[[bytes, int], None] | None:
        """Only where every event passes, to a client that gets chunks."""
        return self._client.write_framed if self._filter is None and self._client.is_chunked else None

    def _ready(self, data: bytes) -> bytes:
        """What may leave of these bytes."""
        ready = self._boundaries.feed(data)
        return ready if self._filter is None else self._filter.feed(ready)

    def end(self, end: BodyEnd, last: bytes = b"", *, is_complete: bool) -> None:
        """Leave a clean body as it is; complete a broken one."""
        ready = self._ready(last) if last else b""
        if end is BodyEnd.WHOLE or (end is BodyEnd.CLOSED and is_complete):
            self._client.finish(ready + self._rest())
        elif self._is_inside_event:
            self._client.write(ready)
            self._client.cut()
        elif is_complete:
            self._client.finish(ready)
        else:
            tail = self._error_tail("The answer broke off: the connection to Flowise was lost.")
            self._client.finish(ready + tail)

    def terminate(self, message: str) -> None:
        """Write the error between two events; cut inside of one."""
        if self._is_inside_event:
            self._client.cut()
        else:
            self._client.finish(self._error_tail(message))

    def tick(self, now: float) -> float:
        """Send a heartbeat if nothing was sent for the configured time; return when to look again."""
        again = self._client.tick(now)
        after = self._heartbeat_after
        if not after:
            return again
        if self._beat_at is None:
            self._beat_at = now
        sent_at = self._client.last_byte_at if self._sent_at is None else self._sent_at
        silent_since = max(self._beat_at, sent_at)
        if now - silent_since >= after and not self._is_inside_event:
            self._client.write(self._heartbeat)
            silent_since = self._beat_at = now
        return min(again, silent_since + after)

    def _rest(self) -> bytes:
        """The tail without a boundary: the body stays byte-identical."""
        rest = self._boundaries.rest()
        return rest if self._filter is None else self._filter.feed(rest)

    @property
    def _is_inside_event(self) -> bool:
        if not self._boundaries.is_inside_event:
            return False
        return self._filter is None or not self._filter.is_dropping
