"""The spans of nodes: what they are named, whose they are, and when they were."""

from __future__ import annotations

import pytest

from gateway.flowise.nodes import Execution, ReadRun, UsedTool
from gateway.telemetry.node_spans import NodeSpans
from gateway.telemetry.span import Span, SpanKindName

OFFSET = 1_000.0
RUN = Span("run", SpanKindName.CLIENT, "a" * 32, "b" * 16, "", 1100.0, 1110.0)


def spans(*executions, run=RUN, has_content=False):
    numbers = iter(range(1, 1000))
    maker = NodeSpans(run, OFFSET, lambda: f"{next(numbers):016x}", has_content=has_content)
    return list(maker.of(ReadRun(executions)))


@pytest.mark.parametrize(
    ("kind", "name", "span_kind"),
    [
        ("llmAgentflow", "chat gpt-4o-mini", SpanKindName.CLIENT),
        ("conditionAgentAgentflow", "chat gpt-4o-mini", SpanKindName.CLIENT),
        ("agentAgentflow", "invoke_agent Bot", SpanKindName.INTERNAL),
        ("toolAgentflow", "execute_tool Bot", SpanKindName.INTERNAL),
        ("retrieverAgentflow", "retrieval Bot", SpanKindName.INTERNAL),
        ("startAgentflow", "node Bot", SpanKindName.INTERNAL),
        ("<script>", "node Bot", SpanKindName.INTERNAL),
        ("", "node Bot", SpanKindName.INTERNAL),
    ],
)
def test_a_node_is_named_as_its_kind_asks(kind, name, span_kind):
    (made,) = spans(Execution("bot_0", "Bot", kind=kind, model="gpt-4o-mini"))
    assert (made.name, made.kind) == (name, span_kind)
    assert (made.trace_id, made.parent_id) == (RUN.trace_id, RUN.span_id)


def test_what_a_node_of_a_model_has():
    (made,) = spans(
        Execution(
            "llm_0", "LLM", "FINISHED", 101.0, 104.0, (5.0, 7.5), kind="llmAgentflow", model="gpt-4o-mini",
            answering_model="gpt-4o-mini-2024", provider="openai", finish_reason="stop", tokens=(12, 34),
            tools=(UsedTool("search"), UsedTool("search", is_failed=True)),
        )
    )  # fmt: skip
    assert (made.began, made.ended, made.error) == (1101.0, 1104.0, None)
    assert made.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini-2024",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 34,
        "flowise.node.id": "llm_0",
        "flowise.node.label": "LLM",
        "flowise.node.type": "llmAgentflow",
        "flowise.node.status": "FINISHED",
        "flowise.node.tools": ("search",),
        "flowise.node.times": "stream",
        "flowise.node.model_time": 2.5,
    }
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
    assert [one.attributes for one in made.events] == [tool, {**tool, "error.type": "tool_error"}]


def test_nodes_side_by_side_overlap():
    made = spans(Execution("a", began=101.0, ended=105.0), Execution("b", began=102.0, ended=103.0))
    assert [(one.began, one.ended, one.parent_id) for one in made] == [
        (1101.0, 1105.0, RUN.span_id),
        (1102.0, 1103.0, RUN.span_id),
    ]


def test_what_an_iteration_repeats_is_below_it():
    made = spans(
        Execution("loop", began=101.0, ended=103.0),
        Execution("a", began=101.5, ended=102.0, parent="loop", iteration=0),
        Execution("loop", began=104.0, ended=106.0),
        Execution("a", began=104.5, ended=105.0, parent="loop", iteration=0),
        Execution("b", began=107.0, ended=108.0, parent="unknown"),
        Execution("self", began=107.0, ended=108.0, parent="self"),
    )
    first, inner, second, later, other, itself = made
    assert (inner.parent_id, later.parent_id) == (first.span_id, second.span_id)
    assert (other.parent_id, itself.parent_id) == (RUN.span_id, RUN.span_id)
    assert inner.attributes["flowise.node.iteration"] == 0


def test_a_node_that_has_not_ended_ends_with_the_run():
    (made,) = spans(Execution("a", began=101.0))
    assert (made.ended, made.error) == (RUN.ended, None)
    failed = Span("run", SpanKindName.CLIENT, "a" * 32, "b" * 16, "", 1100.0, 1110.0, error="truncated")
    (made,) = spans(Execution("a", began=101.0), run=failed)
    assert (made.ended, made.error) == (1110.0, "inprogress")


def test_an_error_is_shown_only_with_content():
    failed = Execution("a", status="ERROR", began=101.0, ended=102.0, error="your secret prompt")
    assert [one.error for one in spans(failed)] == ["error"]
    assert [one.error for one in spans(failed, has_content=True)] == ["your secret prompt"]
    assert spans(failed)[0].attributes["error.type"] == "error"


@pytest.mark.parametrize("skew", [0.0, -3600.0, 86400.0])
def test_times_of_an_answer_that_is_no_stream_are_those_of_flowise_in_the_run(skew):
    """With another clock, the last one ends with the run."""
    first, second = (1103.0 + skew, 1105.0 + skew), (1106.0 + skew, 1110.0 + skew)
    made = spans(Execution("start"), Execution("a", model_time=first), Execution("b", model_time=second))
    assert [(one.began, one.ended, one.attributes["flowise.node.times"]) for one in made] == [
        (1100.0, 1100.0, "none"),
        (1103.0, 1105.0, "flowise"),
        (1106.0, 1110.0, "flowise"),
    ]


def test_no_node_leaves_its_run_and_none_ends_before_it_began():
    made = spans(
        Execution("a", model_time=(0.0, 2e9)), Execution("b", began=105.0, ended=104.0), Execution("c")
    )
    assert [(one.began, one.ended) for one in made] == [(1100.0, 1110.0), (1105.0, 1105.0), (1105.0, 1105.0)]
