"""The spans of one request, from its record: plain values, which `otlp` sends (pure).

Names and attributes are those of OpenTelemetry's conventions 1.41 for HTTP and GenAI, where a chatflow is a workflow.
What they have no name for begins with `flowise.`, if it is Flowise's, else with `flowise_gateway.`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from gateway.flowise.node_content import LONGEST_CONTENT, as_json, cut
from gateway.flowise.nodes import ReadRun
from gateway.telemetry.node_spans import NodeSpans
from gateway.telemetry.span import Attributes, Span, SpanEvent, SpanKindName, known
from gateway.telemetry.trace_records import GivenFeedback, RequestRecord, UpstreamRecord

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "PATCH", "CONNECT", "TRACE"})
_SCORES = {"THUMBS_UP": 1.0, "THUMBS_DOWN": 0.0}


class SpanMaker(Struct, frozen=True):
    """Makes spans in one process.

    Attributes:
        offset: seconds since 1970 at monotonic zero.
        new_id: returns 16 random hexadecimal digits.
    """

    offset: float
    new_id: Callable[[], str]

    def of_request(self, record: RequestRecord, run: ReadRun) -> Iterator[Span]:
        """That of the request, that of its request to Flowise, and one for each node. `run`: what Flowise reports."""
        yield self._request(record)
        call = record.call
        if call is None:
            return
        sent = self._call(record, call, run)
        yield sent
        yield from NodeSpans(sent, self.offset, self.new_id, has_content=record.has_content).of(run)

    def of_feedback(self, record: RequestRecord, given: GivenFeedback, answer: tuple[str, str]) -> Span:
        """A thumb, in the trace of its answer. `answer`: the trace and the span of its run."""
        context = record.context
        trace_id, span_id = answer
        evaluation = known(
            {
                "gen_ai.evaluation.name": "user_feedback",
                "gen_ai.evaluation.score.label": given.rating,
                "gen_ai.evaluation.score.value": _SCORES.get(given.rating),
                "gen_ai.evaluation.explanation": cut(given.comment, LONGEST_CONTENT),
            }
        )
        at = self.offset + record.ended
        return Span(
            name="feedback",
            kind=SpanKindName.INTERNAL,
            trace_id=trace_id,
            span_id=self.new_id(),
            parent_id=span_id,
            began=self.offset + record.received,
            ended=at,
            attributes=known({"flowise.message.id": given.message, **evaluation}),
            events=[SpanEvent("gen_ai.evaluation.result", at, evaluation)],
            links=[(context.trace_id, context.span_id)] if record.is_exported else [],
        )

    # -- the request -------------------------------------------------------------------------------

    def _request(self, record: RequestRecord) -> Span:
        context = record.context
        method = record.method if record.method in _METHODS else "_OTHER"
        return Span(
            name=f"{method if method != '_OTHER' else 'HTTP'} {record.path}".rstrip(),
            kind=SpanKindName.SERVER,
            trace_id=context.trace_id,
            span_id=context.span_id,
            parent_id=context.parent_id,
            began=self.offset + record.received,
            ended=self.offset + record.ended,
            attributes={"http.request.method": method, **_request_attributes(record)},
            events=list(self._policies(record)),
            links=[context.linked] if context.linked else [],
            error=(record.error or record.outcome) if record.is_failed else None,
        )

    def _policies(self, record: RequestRecord) -> Iterator[SpanEvent]:
        """One for each policy that the request has met: when it began, how long it took, and how it went."""
        marks = record.context.marks
        for number, began in enumerate(marks[: len(record.policies)]):
            has_passed = number + 1 < len(marks)
            ended = marks[number + 1] if has_passed else record.ended
            result = "passed" if has_passed else _ended_by_policy(record)
            attributes: Attributes = {
                "flowise_gateway.policy.duration": ended - began,
                "flowise_gateway.policy.result": result,
            }
            yield SpanEvent(f"policy {record.policies[number]}", self.offset + began, attributes)

    # -- the request to Flowise --------------------------------------------------------------------

    def _call(self, record: RequestRecord, call: UpstreamRecord, run: ReadRun) -> Span:
        context = record.context
        ended = max(call.sent, record.ended if call.ended is None else call.ended)
        is_failed = record.is_failed and call.result != "ok" if not call.is_run else record.is_failed
        named = f"invoke_workflow {record.route}" if call.is_run else f"{record.method} {record.path}"
        span = Span(
            name=named,
            kind=SpanKindName.CLIENT,
            trace_id=context.trace_id,
            span_id=context.child_id,
            parent_id=context.span_id,
            began=self.offset + call.sent,
            ended=self.offset + ended,
            attributes=_call_attributes(record, call),
            error=_call_error(record, call) if is_failed else None,
        )
        if call.is_run:
            span.attributes |= _run_attributes(record, call, run)
        if call.head is not None:
            span.events.append(SpanEvent("response head", self.offset + call.head, {}))
        if call.first_token is not None:
            span.events.append(SpanEvent("first token", self.offset + call.first_token, {}))
        return span


def _ended_by_policy(record: RequestRecord) -> str:
    """The code of the error that it raised; `answered`, as a preflight is; or that the client has left."""
    if record.error and record.outcome != "client_closed":
        return _code(record.error)
    return record.outcome if record.outcome == "client_closed" else "answered"


def _code(error: str) -> str:
    """The first word of an error in the log is its code."""
    return error.partition(":")[0]


def _request_attributes(record: RequestRecord) -> Attributes:
    is_error = record.is_failed or record.status >= 400
    return known(
        {
            "http.route": record.path,
            "http.response.status_code": record.status or None,
            "client.address": record.client,
            "user_agent.original": record.user_agent,
            "error.type": (_code(record.error) or record.outcome) if is_error else None,
            "flowise_gateway.route": record.route,
            "flowise_gateway.endpoint": record.endpoint,
            "flowise_gateway.request_id": record.request_id,
            "flowise_gateway.caller": record.caller,
            "flowise_gateway.auth": record.auth,
            "flowise_gateway.outcome": record.outcome,
            "flowise_gateway.limited_by": record.limited_by,
            "flowise_gateway.waited": record.waited or None,
            "flowise_gateway.overhead": record.overhead,
            "flowise.message.id": None if record.feedback is None else record.feedback.message,
            "gen_ai.evaluation.score.label": None if record.feedback is None else record.feedback.rating,
        }
    )


def _call_attributes(record: RequestRecord, call: UpstreamRecord) -> Attributes:
    host, _, port = call.server.rpartition(":")
    return known(
        {
            "http.request.method": record.method,
            "server.address": host or call.server,
            "server.port": int(port) if port.isdigit() else None,
            "flowise_gateway.upstream": call.upstream,
            "flowise_gateway.upstream.result": call.result,
            "error.type": call.result if call.result != "ok" else None,
        }
    )


def _run_attributes(record: RequestRecord, call: UpstreamRecord, run: ReadRun) -> Attributes:
    usage, failure = call.usage, call.failure
    first = None if call.first_token is None else call.first_token - call.sent
    output = next((one.output for one in reversed(run.executions) if one.output), "")
    return known(
        {
            "gen_ai.operation.name": "invoke_workflow",
            "gen_ai.workflow.name": record.route,
            "gen_ai.request.stream": call.is_streaming,
            "gen_ai.conversation.id": call.conversation,
            "gen_ai.usage.input_tokens": None if usage is None else usage.input,
            "gen_ai.usage.output_tokens": None if usage is None else usage.output,
            "gen_ai.response.time_to_first_chunk": first,
            "gen_ai.input.messages": _message("user", call.question),
            "gen_ai.output.messages": _message("assistant", output),
            "flowise_gateway.token_source": None if usage is None else usage.source,
            "flowise_gateway.abort": call.abort,
            "flowise.message.id": run.message_id,
            "flowise.error.kind": None if failure is None else failure.kind,
            "flowise.nodes_left_out": run.left_out or None,
        }
    )


def _call_error(record: RequestRecord, call: UpstreamRecord) -> str:
    if call.failure is not None:
        return call.failure.described(with_text=record.has_content)
    return record.error or record.outcome


def _message(role: str, text: str) -> str:
    return as_json((role, cut(text, LONGEST_CONTENT))) if text else ""
