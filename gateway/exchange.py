"""The one object that travels with a request; beside each field stands its single writer.

Rooms do not know each other: what one has found out, the next ones read here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

from aiohttp import web

from gateway.admission.gcra import LimitStatus
from gateway.admission.limiter import Admission
from gateway.admission.quotas import Quota
from gateway.admission.store import StoreBudget
from gateway.auth.caller import NOBODY, Caller
from gateway.config import Route
from gateway.errors import GatewayError
from gateway.flowise.endpoints import Match
from gateway.flowise.outcome import Outcome
from gateway.flowise.prediction import Changes, Prediction
from gateway.flowise.usage import Usage

SERVER = "flowise-gateway"  # what answers call themselves
# A page, a proxy and a cache must not learn the token in a path below `/t/`.
UNDER_TOKEN = {"Referrer-Policy": "no-referrer", "Cache-Control": "private, no-store"}
NO_CHANGES = Changes()


@dataclass(frozen=True, slots=True)
class UpstreamBody:
    """A checked request body, ready to be sent. Pieces are sent as they are read."""

    content_type: str
    content: bytes | AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Document:
    """A checked body that is no prediction: feedback, a lead, attachments.

    `client_chat_id` is unmapped; `encode` takes the chatflow id and the chat id for Flowise.
    """

    client_chat_id: str | None
    encode: Callable[[str, str | None], UpstreamBody]


@dataclass(slots=True)
class Timings:
    """Moments of one exchange in monotonic seconds; None: it did not come to that."""

    received: float
    upstream_written: float | None = None
    upstream_head: float | None = None
    client_head: float | None = None
    first_token: float | None = None
    ended: float | None = None  # of the walk: the client has its answer, or has left
    waited: float = 0.0  # for a body or a turn: not the gateway's own work

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds; None if no token with text came while the client was there."""
        if self.first_token is None or (self.ended is not None and self.first_token > self.ended):
            return None
        return self.first_token - self.received

    @property
    def overhead(self) -> float | None:
        """Receipt to upstream write, and upstream head to client head, without the waits; in seconds."""
        if self.upstream_written is None or self.upstream_head is None or self.client_head is None:
            return None
        before = self.upstream_written - self.received - self.waited
        return max(0.0, before) + max(0.0, self.client_head - self.upstream_head)


@dataclass(slots=True)
class Exchange:
    """One request and everything that is known of it."""

    request: web.BaseRequest  # context, as all up to `routing_error`
    request_id: str
    client: str
    timings: Timings
    match: Match | None = None
    route: Route | None = None
    routing_error: GatewayError | None = None
    trace_id: str = ""
    path_token: str = field(default="", repr=False)  # the session token that stood in the base path
    response_headers: dict[str, str] = field(
        default_factory=dict
    )  # context, then cors; they win over all others
    caller: Caller = NOBODY  # auth
    auth: str = ""  # auth: the kind of credential, also of one that is refused
    content: bytes = field(default=b"", repr=False)  # body: of the gateway's own endpoints
    prediction: Prediction | None = None  # body
    document: Document | None = None  # body
    upload: Callable[[Changes], UpstreamBody] | None = None  # body
    body_sent: Callable[[], None] = lambda: None  # body: what was held of it is not needed any more
    changes: Changes = NO_CHANGES  # body sets vars, conversations the ids
    chat_id: str | None = None  # conversations: the one that Flowise sees
    release_conversation: Callable[[], None] | None = None  # conversations
    upstream: str = ""  # handlers, as all below
    server: str = ""
    upstream_result: str = ""  # what Flowise did with it; empty: it never got there
    status: int = 0
    outcome: Outcome | None = None
    is_streaming: bool = False
    events: Mapping[str, int] = field(default_factory=dict)
    gaps: tuple[Sequence[int], float] | None = None  # between tokens: a count for each bucket, and their sum
    usage: Usage | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    abort: str = ""
    error: str = ""
    store_budget: StoreBudget | None = (
        None  # limits and conversations: how long it may still wait for the store
    )
    admissions: tuple[Admission, ...] = ()  # limits
    limit_statuses: tuple[tuple[Quota, LimitStatus], ...] = ()  # limits: what is left of each
    limited_by: str = ""  # limits
    told: GatewayError | None = None  # why the gateway itself ends it, from outside of the walk
    is_run_open: bool = False  # handlers: a run outlives its client
    _at_leave: list[Callable[[], None]] = field(default_factory=list)
    _at_end: list[Callable[[Exchange], None]] = field(default_factory=list)

    @property
    def route_name(self) -> str:
        """The route's name; `none` where none is known."""
        return "none" if self.route is None else self.route.name

    @property
    def endpoint(self) -> str:
        """The endpoint's name; `none` where the path is no endpoint."""
        return "none" if self.match is None else self.match.endpoint.name

    def free_slots(self) -> None:
        """Nothing of it is running any more."""
        for admission in self.admissions:
            admission.release()

    def give_back(self, tokens: int) -> None:
        """It is over and has used so many tokens: settle what its limits were charged, once."""
        for admission in self.admissions:
            admission.settle(tokens)
        self.free_slots()

    def on_response_done(self, undo: Callable[[], None]) -> None:
        """Call this when the request leaves the walk, the last one first."""
        self._at_leave.append(undo)

    def on_complete(self, say: Callable[[Exchange], None]) -> None:
        """Call this when all is known: after the walk, and after the run is settled that outlives it."""
        self._at_end.append(say)

    def leave(self) -> None:
        """The walk is over; writer: the walk."""
        self.timings.ended = monotonic()
        try:
            self._undo()
        finally:
            if not self.is_run_open:
                self._end()

    def settled(self) -> None:
        """The run is over and accounted for."""
        self.is_run_open = False
        if self.timings.ended is not None:
            self._end()

    def _undo(self) -> None:
        """Undo the rest, whatever one of them raises."""
        if self._at_leave:
            undo = self._at_leave.pop()
            try:
                undo()
            finally:
                self._undo()

    def _end(self) -> None:
        """Say the rest, whatever one of them raises."""
        if self._at_end:
            say = self._at_end.pop(0)
            try:
                say(self)
            finally:
                self._end()
