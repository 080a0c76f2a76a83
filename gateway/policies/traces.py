"""Hands over what is known of each request for its trace, once it has ended and its run is settled.

`mark` stands behind each policy: what a policy took is known from the moments before and after it, and where traces are
off nothing is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter
from time import monotonic

import msgspec
from aiohttp import hdrs

from gateway.config import TraceSettings
from gateway.exchange import Exchange, Timings
from gateway.flowise.endpoints import BodyKind, Endpoint, Purpose
from gateway.flowise.error_texts import FlowiseFailure
from gateway.flowise.nodes import NodeEvidence
from gateway.flowise.outcome import Outcome
from gateway.flowise.usage import Usage
from gateway.http.trace_context import TraceContext
from gateway.pipeline import Policy
from gateway.telemetry.trace_export import Handed, TraceExport
from gateway.telemetry.trace_records import GivenFeedback, RequestRecord, UpstreamRecord

LONGEST_AGENT = 256  # characters of a User-Agent
RECORD_SIZE = 4096  # bytes that a request counts beside its nodes and its question
_FAILED = (Outcome.ERROR_EVENT, Outcome.TRUNCATED, Outcome.TIMEOUT, Outcome.FAILED, None)


def with_marks(policies: Sequence[Policy]) -> Sequence[Policy]:
    """The policies with a `mark` before the first and behind each."""
    return (mark, *chain.from_iterable((policy, mark) for policy in policies))


def mark(exchange: Exchange) -> None:
    if exchange.trace is not None:
        exchange.trace.marks.append(monotonic())


def names_of(policies: Sequence[Policy]) -> tuple[str, ...]:
    """A policy is named as its file."""
    return tuple(policy.__module__.rpartition(".")[2] for policy in policies)


def traces(
    export: TraceExport, settings: TraceSettings, names: tuple[str, ...]
) -> Callable[[Exchange], None]:
    """The policy. `names`: of the policies with marks."""
    has_content = settings.content

    def hand_over(exchange: Exchange) -> None:
        trace, nodes = exchange.trace, exchange.nodes
        if trace is None:
            return
        exchange.nodes = None  # megabytes, which an exchange in a cycle would hold until a collection
        is_failed = has_failed(exchange)
        is_exported = trace.is_sampled or is_failed
        feedback = _feedback(exchange, with_comment=has_content) if exchange.document is not None else None
        if not is_exported and feedback is None:
            return
        user_agent = exchange.request.headers.get(hdrs.USER_AGENT, "")[:LONGEST_AGENT]
        question = _question(exchange) if has_content else ""
        endpoint = None if exchange.match is None else exchange.match.endpoint
        seen = (tuple(trace.marks), nodes, endpoint, user_agent, question)
        more = (is_exported, is_failed, has_content, names, feedback)
        facts = Facts(*(_FACTS(exchange) + seen + more))
        size = RECORD_SIZE + 4 * len(question) + (0 if nodes is None else nodes.size)
        is_taken = export.offer(Handed(facts, size, is_exported))
        if is_taken and is_exported and export.has_exemplars:
            exchange.exemplar = {"trace_id": trace.trace_id}

    def policy(exchange: Exchange) -> None:
        exchange.on_complete(hand_over)

    return policy


def has_failed(exchange: Exchange) -> bool:
    """Whether the gateway or Flowise is to blame: not for what a client may not do, nor for one that has left."""
    return exchange.status >= 500 or exchange.outcome in _FAILED


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What is taken of an exchange on the loop, in the order of `_FACTS` first; without what would hold much memory.

    Thousands may wait, and a collection looks at none of them: all that one holds is texts, numbers, and what lasts as
    long as the configuration or the collector does not track either. Tuples of such it forgets when it first sees them.
    """

    trace_id: str
    parent_id: str
    span_id: str
    child_id: str
    is_sampled: bool
    linked: tuple[str, str] | None
    timings: Timings
    route_name: str
    request_id: str
    client: str
    caller: str
    auth: str
    status: int
    outcome: Outcome | None
    error: str
    limited_by: str
    upstream: str
    server: str
    result: str
    is_streaming: bool
    chat_id: str | None
    usage: Usage | None
    abort: str
    failure: FlowiseFailure | None
    method: str
    marks: tuple[float, ...]
    nodes: NodeEvidence | None
    endpoint: Endpoint | None
    user_agent: str
    question: str
    is_exported: bool
    is_failed: bool
    has_content: bool
    policies: tuple[str, ...]
    feedback: GivenFeedback | None

    def record(self) -> RequestRecord:
        """Make the record, in the thread that exports it."""
        timings, endpoint = self.timings, self.endpoint
        return RequestRecord(
            context=self._context(),
            is_exported=self.is_exported,
            has_content=self.has_content,
            policies=self.policies,
            received=timings.received,
            ended=timings.received if timings.ended is None else timings.ended,
            method=self.method,
            path="" if endpoint is None else endpoint.paths[0],
            endpoint="none" if endpoint is None else endpoint.name,
            route=self.route_name,
            request_id=self.request_id,
            client=self.client,
            user_agent=self.user_agent,
            caller=self.caller,
            auth=self.auth,
            status=self.status,
            outcome=(self.outcome or Outcome.FAILED).value,
            is_failed=self.is_failed,
            error=self.error,
            limited_by=self.limited_by,
            waited=timings.waited,
            overhead=timings.overhead,
            call=None if timings.upstream_written is None else self._call(timings.upstream_written),
            feedback=self.feedback,
        )

    def _context(self) -> TraceContext:
        return TraceContext(
            self.trace_id,
            self.parent_id,
            self.span_id,
            self.child_id,
            self.is_sampled,
            linked=self.linked,
            marks=list(self.marks),
        )

    def _call(self, sent: float) -> UpstreamRecord:
        timings, endpoint = self.timings, self.endpoint
        return UpstreamRecord(
            sent=sent,
            head=timings.upstream_head,
            first_token=timings.first_token,
            ended=timings.upstream_ended,
            upstream=self.upstream,
            server=self.server,
            result=self.result,
            is_run=endpoint is not None and endpoint.purpose is Purpose.RUN,
            is_streaming=self.is_streaming,
            conversation=self.chat_id or "",
            usage=self.usage,
            abort=self.abort,
            failure=self.failure,
            nodes=self.nodes,
            question=self.question,
        )


_FACTS = attrgetter(
    *("trace.trace_id", "trace.parent_id", "trace.span_id", "trace.child_id"),
    *("trace.is_sampled", "trace.linked"),
    *("timings", "route_name", "request_id", "client", "caller.name", "auth", "status"),
    *("outcome", "error", "limited_by", "upstream", "server", "upstream_result", "is_streaming", "chat_id"),
    *("usage", "abort", "failure", "request.method"),
)


def _question(exchange: Exchange) -> str:
    return "" if exchange.prediction is None else exchange.prediction.question


def _feedback(exchange: Exchange, *, with_comment: bool) -> GivenFeedback | None:
    """What a feedback says of its answer, if Flowise has taken it."""
    document, match = exchange.document, exchange.match
    is_feedback = match is not None and match.endpoint.body in (BodyKind.FEEDBACK, BodyKind.FEEDBACK_CHANGE)
    if document is None or match is None or not is_feedback or not 200 <= exchange.status < 300:
        return None
    texts = document.texts
    return GivenFeedback(
        message=texts.get("messageId", ""),
        stored=exchange.feedback_id or match.params.get("feedbackId", ""),
        rating=texts.get("rating", ""),
        comment=texts.get("content", "") if with_comment else "",
    )
