"""What is known of one request: policies and handlers share it and nothing else.

Each group of fields names the files that write it; `tests/test_exchange.py` holds that. A field of `exchange` itself is
written by the methods below.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from time import monotonic
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import field

from gateway import web
from gateway.admission.gcra import LimitStatus
from gateway.admission.limiter import Admission
from gateway.admission.quotas import Quota
from gateway.admission.store import StoreBudget
from gateway.auth.caller import UNAUTHENTICATED, Caller
from gateway.config import Route
from gateway.errors import GatewayError
from gateway.flowise.endpoints import Match
from gateway.flowise.error_texts import FlowiseFailure
from gateway.flowise.nodes import NodeEvidence
from gateway.flowise.outcome import Outcome
from gateway.flowise.prediction import Changes, Prediction
from gateway.flowise.raw_json import Pieces
from gateway.flowise.usage import Usage
from gateway.http.trace_context import TraceContext
from gateway.records import DiscreetRecord

SERVER = "flowise-gateway"  # the `Server` header of every response
# A page, a proxy and a cache must not learn the token in a path below `/t/`.
UNDER_TOKEN = {"Referrer-Policy": "no-referrer", "Cache-Control": "private, no-store"}
CLIENT_CLOSED = 499  # nginx's status for a client that left before the head
NO_CHANGES = Changes()
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class UpstreamBody(DiscreetRecord, frozen=True):
    """A checked request body, ready to be sent; an iterator's pieces are sent as they are read.

    The pieces of a tuple are sent one after the other, so that a large body is not copied.
    """

    content_type: str
    content: bytes | Pieces | AsyncIterator[bytes]


class Document(DiscreetRecord, frozen=True):
    """A checked body that is no prediction: feedback, a lead, attachments.

    `client_chat_id` is unmapped; `encode` takes the chatflow id and the chat id for Flowise. `texts`: the fields of one
    that was read whole.
    """

    client_chat_id: str | None
    encode: Callable[[str, str | None], UpstreamBody]
    texts: Mapping[str, str] = _NOTHING


class Timings(msgspec.Struct, gc=False):
    """Moments in monotonic seconds, None: not reached; and `waited`, a duration in seconds."""

    received: float  # policies/routing
    upstream_written: float | None = None  # relay/outgoing
    upstream_head: float | None = None  # relay/run, relay/transfer, relay/speech
    upstream_ended: float | None = None  # relay/run, relay/transfer
    client_head: float | None = None  # relay/delivery
    first_token: float | None = None  # relay/run
    ended: float | None = None  # exchange: the client has its response, or has left
    waited: float = 0.0  # policies/body, policies/conversations: not the gateway's own work

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds; None if no token with text came while the client was connected."""
        if self.first_token is None or (self.ended is not None and self.first_token > self.ended):
            return None
        return self.first_token - self.received

    @property
    def overhead(self) -> float | None:
        """Seconds from receipt to upstream write and from upstream head to client head, without the waits."""
        if self.upstream_written is None or self.upstream_head is None or self.client_head is None:
            return None
        before = self.upstream_written - self.received - self.waited
        return max(0.0, before) + max(0.0, self.client_head - self.upstream_head)


class Exchange(msgspec.Struct):
    """One request, from its head to its log line."""

    # policies/routing
    request: web.BaseRequest
    request_id: str
    client: str
    timings: Timings
    match: Match | None = None
    routing_error: GatewayError | None = None
    trace_id: str = ""
    client_certificate: str = ""  # its subject, with mutual TLS
    trace: TraceContext | None = None  # policies/routing; None: traces are off
    path_token: str = ""  # the session token from the base path
    # policies/routing, serving
    route: Route | None = None
    # policies/routing, policies/cors, policies/limits, handlers/predict, relay/delivery
    response_headers: dict[str, str] = field(default_factory=dict)  # replace those of any response
    # policies/cors
    cors: str = ""  # why a preflight got no CORS headers
    # policies/auth
    caller: Caller = UNAUTHENTICATED
    auth: str = ""  # the kind of credential, also of a refused one
    flowise_key: str = ""  # of the client, in place of the one that is configured
    has_ignored_credential: bool = False
    # policies/body
    content: bytes = b""  # of the gateway's own endpoints
    document: Document | None = None
    upload: Callable[[Changes], UpstreamBody] | None = None
    # policies/body, exchange
    release_body: Callable[[], None] | None = None  # frees the memory that the body holds
    # policies/body, handlers/predict, handlers/passthrough
    prediction: Prediction | None = None
    # policies/body, policies/conversations
    changes: Changes = NO_CHANGES
    # policies/conversations
    chat_id: str | None = None  # as Flowise sees it, never the client's own text on a route that binds
    release_conversation: Callable[[], None] | None = None
    # policies/conversations, policies/limits, policies/feedback
    store_budget: StoreBudget | None = None  # the time that is left for calls to the store
    # policies/limits
    admissions: tuple[Admission, ...] = ()
    limit_statuses: tuple[tuple[Quota, LimitStatus], ...] = ()
    limited_by: str = ""
    # relay/outgoing, handlers/node_icon
    upstream: str = ""
    # relay/outgoing
    server: str = ""
    # relay/run, relay/transfer, handlers/chatbot_config, handlers/node_icon
    upstream_result: str = ""  # the label of `upstream_requests_total`; empty: nothing was sent
    # relay/run, relay/transfer
    bytes_in: int = 0
    # relay/run, relay/speech
    is_streaming: bool = False
    events: Mapping[str, int] = _NOTHING
    abort: str = ""
    # relay/run
    gaps: tuple[Sequence[int], float] | None = None  # between tokens: a count for each bucket, and their sum
    usage: Usage | None = None
    uncounted: str = ""  # why the usage that Flowise reported could not be read
    failure: FlowiseFailure | None = None  # what Flowise says went wrong in the run
    # relay/speech
    tts_seconds: float | None = None  # from Flowise's head to its end
    # relay/run, policies/traces
    nodes: NodeEvidence | None = None  # with `trace`, until it is handed over: what the nodes are read from
    # handlers/feedback
    feedback_id: str = ""  # of a feedback that Flowise has stored
    # policies/traces
    exemplar: dict[str, str] | None = None  # of its measurements; None: it is not exported
    # pipeline, relay/registry
    terminated_by: GatewayError | None = (
        None  # why the gateway ended the request from outside of the pipeline
    )
    # relay/registry
    may_abort: bool = True  # Flowise knows runs by conversation: an abort would hit the one that holds it now
    # exchange, relay/delivery
    status: int = 0
    bytes_out: int = 0
    # exchange
    outcome: Outcome | None = None
    error: str = ""
    is_run_open: bool = False  # a run outlives its client
    _on_response_done: list[Callable[[], None]] = field(default_factory=list)
    _on_complete: list[Callable[[Exchange], None]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id}>"  # prompts and credentials are in it

    @property
    def route_name(self) -> str:
        """`none` without a route."""
        return "none" if self.route is None else self.route.name

    @property
    def endpoint(self) -> str:
        """The endpoint's name; `none` if the path is no endpoint."""
        return "none" if self.match is None else self.match.endpoint.name

    @property
    def matched(self) -> tuple[Match, Route]:
        """Endpoint and route, for code that policies/routing let pass."""
        if self.match is None or self.route is None:
            raise AssertionError("policies/routing refuses a request without a route")
        return self.match, self.route

    # -- how it ends -------------------------------------------------------------------------------

    def answered(self, status: int, outcome: Outcome, size: int, error: str = "") -> None:
        """The gateway itself answers, with a body of `size` bytes; replaces an outcome noted before."""
        self.status, self.outcome, self.bytes_out = status, outcome, size
        self.error = self.error or error

    def ended(self, outcome: Outcome, error: str = "") -> None:
        """Note how it ended. The first cause wins."""
        self.outcome = self.outcome or outcome
        self.error = self.error or error

    def also(self, error: str) -> None:
        """Note an error that is not how it ended."""
        self.error = f"{self.error}; {error}" if self.error else error

    def client_left(self) -> None:
        """The client left before its response was complete."""
        self.ended(Outcome.CLIENT_CLOSED, "the client left")
        self.status = self.status or CLIENT_CLOSED

    def body_sent(self) -> None:
        """Flowise has the body, or needs it no more."""
        release, self.release_body = self.release_body, None
        if release is not None:
            release()

    def release_unless_running(self) -> None:
        """A run releases its conversation itself."""
        if self.release_conversation is not None and not self.is_run_open:
            self.release_conversation()

    def release_slots(self) -> None:
        """Nothing of it runs any more: free its concurrency slots."""
        for admission in self.admissions:
            admission.release()

    def settle_limits(self, tokens: int) -> None:
        """Correct what its limits were charged to `tokens`, the true count, and free its slots."""
        if not self.admissions:
            return
        for admission in self.admissions:
            admission.settle(tokens)
        self.release_slots()

    def on_response_done(self, callback: Callable[[], None]) -> None:
        """Call this when the response is done or the client has left; the last callback first."""
        self._on_response_done.append(callback)

    def on_complete(self, callback: Callable[[Exchange], None]) -> None:
        """Call this when everything is known: after the response, and after a run that outlives it."""
        self._on_complete.append(callback)

    def response_done(self) -> None:
        """The request leaves the pipeline."""
        self.timings.ended = monotonic()
        try:
            _call_all(self._on_response_done)
        finally:
            self._complete()

    def run_started(self) -> None:
        self.is_run_open = True

    def run_completed(self) -> None:
        """The run is over and settled."""
        self.is_run_open = False
        self._complete()

    def _complete(self) -> None:
        if not self.is_run_open and self.timings.ended is not None:
            self._on_complete.reverse()
            _call_all(self._on_complete, self)


def _call_all(callbacks: list[Callable[..., None]], *args: object) -> None:
    """Call and remove all of them, the last one first, whatever one raises.

    An ExitStack does the same; two of them would take 6 µs for each request.
    """
    try:
        while callbacks:
            callbacks.pop()(*args)
    finally:
        if callbacks:
            _call_all(callbacks, *args)
