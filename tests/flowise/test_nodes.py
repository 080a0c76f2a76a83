"""Which nodes an agentflow has executed, and when: also side by side, in loops, after a resume, and of hostile traces."""

from __future__ import annotations

import json

import pytest

from gateway.flowise.json_scan import MOST_ITEMS
from gateway.flowise.nodes import (
    MOST_CONTENT,
    MOST_EXECUTIONS,
    MOST_TOOLS,
    NodeEvidence,
    UsedTool,
    read_run,
)
from gateway.flowise.observer import StreamObserver
from gateway.flowise.usage import count
from tests.harness.captured_streams import captured
from tests.harness.captures import load
from tests.harness.frames import event


def step(node, status, label="", **more):
    about = {"nodeId": node, "nodeLabel": label or node, "status": status, **more}
    return event("nextAgentFlow", json.dumps(about, separators=(",", ":")))


def entry(node, *, label="", tokens=None, name="llmAgentflow", status="FINISHED", **data):
    output = (
        {} if tokens is None else {"usageMetadata": {"input_tokens": tokens[0], "output_tokens": tokens[1]}}
    )
    return {
        "nodeId": node,
        "nodeLabel": label or node,
        "status": status,
        "data": {"name": name, "output": output, **data},
    }


def evidence(*steps, entries=(), metadata=b""):
    """`steps`: an event each second."""
    return NodeEvidence(
        event("agentFlowExecutedData", json.dumps(list(entries))),
        (),
        tuple((one, float(second)) for second, one in enumerate(steps)),
        metadata,
    )


def times(run):
    return [(one.node, one.began, one.ended) for one in run.executions]


def observed(body, cuts=(), *, seconds=1.0):
    """What an observer keeps of a stream, of which it reads an event each second."""
    observer = StreamObserver()
    observer.keep_steps()
    now = 0.0
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        observer.feed(block + b"\n\n", now)
        now += seconds
    return observer


def test_an_agent_that_calls_a_tool():
    """The capture 3.1.2/v2_agent_tool_stream; 100 + 11 tokens in, 20 + 7 out."""
    observer = observed(captured()["3.1.2/v2_agent_tool_stream"])
    run = read_run(observer.node_evidence())
    start, agent = run.executions
    assert (start.node, start.label, start.kind, start.status) == (
        *("startAgentflow_0", "Start", "startAgentflow", "FINISHED"),
    )
    assert (start.tokens, start.tools, start.began, start.ended) == (None, (), 1.0, 2.0)
    assert (agent.node, agent.label, agent.kind) == ("agentAgentflow_0", "SubAgent", "agentAgentflow")
    assert (agent.model, agent.answering_model, agent.provider) == ("gpt-4o-mini", "gpt-4o-mini", "openai")
    assert (agent.tokens, agent.finish_reason) == ((111, 27), "stop")
    assert agent.tools == (UsedTool("calculator"),)
    assert agent.began == 4.0
    assert agent.ended > agent.began
    assert agent.model_time == (1795233266.041, 1795233266.403)
    assert (agent.input, agent.output) == ("", "")
    assert run.message_id == "cd172396-831f-4b95-9ecc-25e800061d79"


def test_its_content_if_that_is_wanted():
    run = read_run(observed(captured()["3.1.2/v2_agent_tool_stream"]).node_evidence(), with_content=True)
    start, agent = run.executions
    assert "TOOL please" in start.input
    assert [one["role"] for one in json.loads(agent.input)] == ["system", "user", "assistant", "tool"]
    assert agent.output.startswith("Hello world")
    assert agent.tools == (UsedTool("calculator", False, '{"input":"2+2"}', "4"),)


def test_an_answer_that_is_no_stream():
    whole = load("nonstream-agentflow").partition(b"\r\n\r\n")[2]
    run = read_run(NodeEvidence(answer=(whole[:100], whole[100:])))
    assert [(one.label, one.kind, one.began) for one in run.executions] == [
        ("Start", "startAgentflow", None),
        ("General Agent", "llmAgentflow", None),
    ]
    assert run.executions[1].tokens is not None
    assert run.executions[1].model_time is not None
    assert run.message_id


def test_a_node_that_failed():
    run = read_run(observed(captured()["stream-agentflow-llm-400"]).node_evidence())
    assert [one.status for one in run.executions] == ["FINISHED", "ERROR"]
    assert "400" in run.executions[1].error


def test_nodes_side_by_side_are_told_apart_by_their_ids():
    run = read_run(
        evidence(
            step("a", "INPROGRESS"), step("b", "INPROGRESS"), step("b", "FINISHED"), step("a", "FINISHED"),
            entries=[entry("b", tokens=(1, 2)), entry("a", tokens=(30, 40))],
        )
    )  # fmt: skip
    assert times(run) == [("a", 0.0, 3.0), ("b", 1.0, 2.0)]
    assert [one.tokens for one in run.executions] == [(30, 40), (1, 2)]


def test_tokens_of_two_nodes_that_interleave_are_counted_once_each():
    entries = [entry("b", tokens=(1, 2)), entry("a", tokens=(30, 40))]
    body = b"".join(
        [
            step("a", "INPROGRESS"), step("b", "INPROGRESS"),
            *(event("token", f'"{word}"') for word in "abab"),
            event("usageMetadata", '{"input_tokens":1,"output_tokens":2}'),
            step("b", "FINISHED"), event("agentFlowExecutedData", json.dumps(entries[:1])),
            event("usageMetadata", '{"input_tokens":30,"output_tokens":40}'),
            step("a", "FINISHED"), event("agentFlowExecutedData", json.dumps(entries)),
        ]
    )  # fmt: skip
    observer = observed(body)
    usage = count(observer.evidence())
    assert (usage.input, usage.output, usage.source) == (31, 42, "reported")
    assert [one.tokens for one in read_run(observer.node_evidence()).executions] == [(30, 40), (1, 2)]


def test_one_node_twice_side_by_side():
    run = read_run(
        evidence(
            step("a", "INPROGRESS"), step("a", "INPROGRESS"), step("a", "FINISHED"), step("a", "ERROR", error="no"),
            entries=[entry("a", tokens=(1, 1)), entry("a", status="ERROR", error="no")],
        )
    )  # fmt: skip
    assert times(run) == [("a", 0.0, 2.0), ("a", 1.0, 3.0)]
    assert [(one.tokens, one.error) for one in run.executions] == [((1, 1), ""), (None, "no")]


def test_a_loop_executes_a_node_again():
    run = read_run(
        evidence(
            step("a", "INPROGRESS"), step("a", "FINISHED"), step("a", "INPROGRESS"), step("a", "FINISHED"),
            entries=[entry("a", tokens=(1, 1)), entry("a", tokens=(2, 2))],
        )
    )  # fmt: skip
    assert times(run) == [("a", 0.0, 1.0), ("a", 2.0, 3.0)]
    assert [one.tokens for one in run.executions] == [(1, 1), (2, 2)]


def test_a_resumed_run_has_only_its_own_nodes():
    run = read_run(
        evidence(
            step("human", "INPROGRESS"), step("human", "FINISHED"), step("a", "INPROGRESS"), step("a", "FINISHED"),
            entries=[entry("start"), entry("a", tokens=(9, 9)), entry("human"), entry("a", tokens=(1, 2))],
        )
    )  # fmt: skip
    assert [(one.node, one.tokens) for one in run.executions] == [("human", None), ("a", (1, 2))]


def test_a_node_that_has_not_ended_has_no_entry():
    run = read_run(
        evidence(
            step("a", "INPROGRESS"),
            step("a", "FINISHED"),
            step("a", "INPROGRESS"),
            entries=[entry("a", tokens=(1, 1))],
        )
    )
    assert [(one.status, one.ended, one.tokens) for one in run.executions] == [
        ("FINISHED", 1.0, (1, 1)),
        ("INPROGRESS", None, None),
    ]


def test_an_iteration_names_what_it_repeats():
    run = read_run(
        evidence(
            step("loop", "INPROGRESS"), step("a", "INPROGRESS"), step("a", "FINISHED"), step("loop", "FINISHED"),
            entries=[entry("a", parentNodeId="loop", iterationIndex=0), entry("loop", name="iterationAgentflow")],
        )
    )  # fmt: skip
    loop, inner = run.executions
    assert (loop.node, loop.parent, loop.iteration) == ("loop", "", None)
    assert (inner.node, inner.parent, inner.iteration) == ("a", "loop", 0)


def test_the_message_is_named_by_the_member_not_by_a_question_that_says_so():
    said = json.dumps({"chatId": "c", "chatMessageId": "right-1", "question": '"chatMessageId":"wrong-1"'})
    assert read_run(evidence(metadata=event("metadata", said.replace(": ", ":")))).message_id == "right-1"
    only = json.dumps({"question": '"chatMessageId":"wrong-1"'})
    assert read_run(evidence(metadata=event("metadata", only))).message_id == ""


def test_an_event_that_was_cut_in_a_long_error_still_ends_its_node():
    long = step("a", "ERROR", label="<b>Ä</b>", error="x" * 10_000)[:4096]
    run = read_run(evidence(step("a", "INPROGRESS"), long))
    assert (run.executions[0].ended, run.executions[0].status) == (1.0, "ERROR")


@pytest.mark.parametrize(
    "executed",
    [
        b"",
        b"nonsense",
        event("agentFlowExecutedData", "7"),
        event("agentFlowExecutedData", "[1,null,[],{}]"),
        event(
            "agentFlowExecutedData", '[{"nodeId":7,"data":"x"},{"nodeId":"a","data":{"output":[],"input":7}}]'
        ),
        event("agentFlowExecutedData", '[{"nodeId":"a","data":{"output":{"timeMetadata":{"start":"x"}}}}]'),
        event("agentFlowExecutedData", "[" * 10_000),
        event("agentFlowExecutedData", '[{"nodeId":"\\ud800"}]'),
    ],
)
def test_a_trace_that_makes_no_sense_has_no_effect_on_what_the_events_say(executed):
    steps = (
        (step("a", "INPROGRESS"), 1.0),
        (step("a", "FINISHED"), 2.0),
        (b"\xff", 3.0),
        (event("nextAgentFlow", "7"), 4.0),
    )
    run = read_run(NodeEvidence(executed, (), steps))
    assert times(run) == [("a", 1.0, 2.0)]


def test_names_are_cut_and_stay_as_they_are_written():
    label = "<img src=x onerror=alert(1)>\u202e" + "x" * 10_000
    run = read_run(evidence(step("a", "INPROGRESS", label=label), entries=[entry("a")]))
    assert run.executions[0].label.startswith("<img src=x onerror=alert(1)>\u202e")
    assert len(run.executions[0].label) == 200


def test_what_one_run_may_report_is_bounded():
    tools = [{"tool": "t", "toolInput": "x" * 5000, "toolOutput": "y"}] * (MOST_TOOLS + 1)
    many = [entry(f"n{number}", tokens=(1, 1)) for number in range(MOST_EXECUTIONS + 3)]
    for one in many:
        one["data"]["output"] |= {"usedTools": tools, "content": "z" * 5000}
    run = read_run(NodeEvidence(event("agentFlowExecutedData", json.dumps(many))), with_content=True)
    assert (len(run.executions), run.left_out) == (MOST_EXECUTIONS, 3)
    assert len(run.executions[0].tools) == MOST_TOOLS
    texts = sum(
        len(one.output) + sum(len(tool.arguments) + len(tool.result) for tool in one.tools)
        for one in run.executions
    )
    assert 0 < texts <= MOST_CONTENT
    too_many = [entry("n")] * (MOST_ITEMS + 1)
    assert read_run(NodeEvidence(event("agentFlowExecutedData", json.dumps(too_many)))).executions == ()
    messages = [{"role": "assistant"}] * 1000
    heavy = [entry(f"n{number}", tokens=(1, 1), input={"messages": messages}) for number in range(20)]
    run = read_run(NodeEvidence(event("agentFlowExecutedData", json.dumps(heavy))))
    assert [one.tokens for one in run.executions] == [(1, 1)] * 8 + [None] * 12
