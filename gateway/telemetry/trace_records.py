"""What is known of one request for its spans."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from gateway.flowise.error_texts import FlowiseFailure
from gateway.flowise.nodes import NodeEvidence
from gateway.flowise.usage import Usage
from gateway.http.trace_context import TraceContext


class GivenFeedback(msgspec.Struct, frozen=True, gc=False):
    """A thumb, or what has changed of one.

    Attributes:
        message: id of the answer, of a new feedback.
        stored: id of the feedback, also of one that is changed.
        rating: as the client has given it; empty: it has not changed.
        comment: the client's words; only if content is wanted.
    """

    message: str
    stored: str
    rating: str
    comment: str = ""


class UpstreamRecord(Struct):
    """A request to Flowise; moments in monotonic seconds, None: not reached."""

    sent: float
    head: float | None
    first_token: float | None
    ended: float | None
    upstream: str
    server: str
    result: str
    is_run: bool
    is_streaming: bool
    conversation: str
    usage: Usage | None
    abort: str
    failure: FlowiseFailure | None
    nodes: NodeEvidence | None
    question: str  # only if content is wanted


class RequestRecord(Struct):
    """A request that has ended; moments in monotonic seconds.

    Attributes:
        is_exported: otherwise it is here for its feedback alone.
        has_content: whether texts of users and of Flowise are wanted.
        policies: names of those that a request passes.
        path: the endpoint's, with names for its parts; empty: there is no endpoint.
        error: as in the log.
        waited, overhead: in seconds.
        call: its request to Flowise; None: there was none.
    """

    context: TraceContext
    is_exported: bool
    has_content: bool
    policies: tuple[str, ...]
    received: float
    ended: float
    method: str
    path: str
    endpoint: str
    route: str
    request_id: str
    client: str
    user_agent: str
    caller: str
    auth: str
    status: int
    outcome: str
    is_failed: bool
    error: str
    limited_by: str
    waited: float
    overhead: float | None
    call: UpstreamRecord | None
    feedback: GivenFeedback | None
