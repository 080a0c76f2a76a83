"""The spans of the nodes that an agentflow has executed, below that of their run (pure).

A node that the stream has reported began and ended when its events came. Of an answer that is no stream only Flowise's
own times are known, those of the calls of models; they are moved into the run where its clock is another one. Any other
node has no length, and `flowise.node.times` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gateway.flowise.node_content import as_json
from gateway.flowise.nodes import FAILED, IN_PROGRESS, Execution, ReadRun, UsedTool
from gateway.telemetry.span import Span, SpanEvent, SpanKindName, Value, known

Times = tuple[float, float, str]
_OPERATIONS = {  # by the name of a component, for what GenAI's conventions know
    "llmAgentflow": "chat",
    "conditionAgentAgentflow": "chat",
    "agentAgentflow": "invoke_agent",
    "toolAgentflow": "execute_tool",
    "retrieverAgentflow": "retrieval",
}


class NodeSpans:
    """Makes those of one run."""

    def __init__(self, run: Span, offset: float, new_id: Callable[[], str], *, has_content: bool) -> None:
        """`offset`: seconds since 1970 at monotonic zero; `new_id`: returns 16 random hexadecimal digits."""
        self._run = run
        self._offset = offset
        self._new_id = new_id
        self._has_content = has_content

    def of(self, run: ReadRun) -> Iterator[Span]:
        """One span for each execution, in the order of `run`."""
        times = self._times(run.executions)
        made = [self._span(one, *when) for one, when in zip(run.executions, times, strict=True)]
        by_node: dict[str, list[Span]] = {}
        for one, span in zip(run.executions, made, strict=True):
            by_node.setdefault(one.node, []).append(span)
        for one, span in zip(run.executions, made, strict=True):
            around = [above for above in by_node.get(one.parent, ()) if above is not span]
            if around:
                span.parent_id = _holding(around, span).span_id
        return iter(made)

    def _span(self, one: Execution, began: float, ended: float, source: str) -> Span:
        operation, label = _OPERATIONS.get(one.kind, ""), one.label or one.node
        subject = (one.model or one.answering_model or label) if operation == "chat" else label
        is_failed = one.status in FAILED or (one.status == IN_PROGRESS and self._run.error is not None)
        return Span(
            name=f"{operation} {subject}" if operation else f"node {label}",
            kind=SpanKindName.CLIENT if operation == "chat" else SpanKindName.INTERNAL,
            trace_id=self._run.trace_id,
            span_id=self._new_id(),
            parent_id=self._run.span_id,
            began=began,
            ended=ended,
            attributes=known(
                {
                    "error.type": one.status.lower() if is_failed else None,
                    "flowise.node.times": source,
                    **_attributes(one, operation, label),
                }
            ),
            events=[_tool_event(tool, ended) for tool in one.tools],
            error=self._error(one) if is_failed else None,
        )

    def _error(self, one: Execution) -> str:
        return one.error if self._has_content and one.error else one.status.lower()

    def _times(self, executions: Sequence[Execution]) -> list[Times]:
        """When each began and ended, in seconds since 1970, and where that is known from."""
        run = self._run
        moved = self._clock_difference(executions)
        found: list[Times] = []
        at = run.began
        for one in executions:
            if one.began is not None:
                began = self._offset + one.began
                ended = run.ended if one.ended is None else self._offset + one.ended
                source = "stream"
            elif one.model_time is not None:
                began, ended = (self._within(moment + moved) for moment in one.model_time)
                source = "flowise"
            else:
                began, ended, source = at, at, "none"
            at = ended = max(began, ended)
            found.append((began, ended, source))
        return found

    def _clock_difference(self, executions: Sequence[Execution]) -> float:
        """Seconds by which Flowise's times are moved so that the last one is in the run."""
        known_times = [one.model_time for one in executions if one.began is None and one.model_time]
        if not known_times:
            return 0.0
        first = min(began for began, _ in known_times)
        last = max(ended for _, ended in known_times)
        run = self._run
        return 0.0 if run.began <= first and last <= run.ended else run.ended - last

    def _within(self, moment: float) -> float:
        return min(max(moment, self._run.began), self._run.ended)


def _attributes(one: Execution, operation: str, label: str) -> dict[str, Value | None]:
    tokens_in, tokens_out = one.tokens or (None, None)
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.agent.name": label if operation == "invoke_agent" else None,
        "gen_ai.provider.name": one.provider,
        "gen_ai.request.model": one.model,
        "gen_ai.response.model": one.answering_model,
        "gen_ai.response.finish_reasons": (one.finish_reason,) if one.finish_reason else None,
        "gen_ai.usage.input_tokens": tokens_in,
        "gen_ai.usage.output_tokens": tokens_out,
        "gen_ai.input.messages": one.input,
        "gen_ai.output.messages": as_json(("assistant", one.output)) if one.output else None,
        "flowise.node.id": one.node,
        "flowise.node.label": label,
        "flowise.node.type": one.kind,
        "flowise.node.status": one.status,
        "flowise.node.iteration": one.iteration,
        "flowise.node.tools": tuple(dict.fromkeys(tool.name for tool in one.tools)),
        "flowise.node.model_time": one.model_time and one.model_time[1] - one.model_time[0],
    }


def _holding(spans: Sequence[Span], inner: Span) -> Span:
    """The one in whose time the other began; else the last."""
    return next((one for one in spans if one.began <= inner.began <= one.ended), spans[-1])


def _tool_event(tool: UsedTool, at: float) -> SpanEvent:
    """Flowise does not say when a tool was called, so it is at the end of its node."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": tool.name,
        "gen_ai.tool.call.arguments": tool.arguments,
        "gen_ai.tool.call.result": tool.result,
        "error.type": "tool_error" if tool.is_failed else None,
    }
    return SpanEvent(f"execute_tool {tool.name}", at, known(attributes))
