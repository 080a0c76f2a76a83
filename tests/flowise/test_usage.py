from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.flowise import usage as usage_file
from gateway.flowise.json_scan import MOST_ITEMS
from gateway.flowise.observer import StreamObserver
from gateway.flowise.raw_json import HEAVY
from gateway.flowise.usage import UNSEEN_TOKENS, Usage, UsageSource, count, plausible, started_node
from tests.flowise.test_events import json_values
from tests.harness import captured_streams as streams


def of_stream(body, question_bytes=0):
    observer = StreamObserver()
    observer.feed(body, 1.0)
    return count(observer.evidence(question_bytes))


def of_capture(name):
    return of_stream(streams.captured()[name])


def frame(name, data):
    return b"message:\ndata:" + json.dumps({"event": name, "data": data}).encode()


def metadata(tokens_in, tokens_out):
    return {"input_tokens": tokens_in, "output_tokens": tokens_out, "total_tokens": 999}


def entry(node, tokens_in, tokens_out, *tool_turns):
    messages = [{"role": "user", "content": "x"}]
    messages += [{"role": "assistant", "usage_metadata": metadata(*turn)} for turn in tool_turns]
    output = {"usageMetadata": metadata(tokens_in, tokens_out)}
    return {"nodeId": node, "data": {"input": {"messages": messages}, "output": output}}


def executed(*entries):
    return frame("agentFlowExecutedData", entries)


def test_tool_turns_are_added_to_the_last_turn():
    assert of_capture("3.1.2/v2_agent_tool_stream") == Usage(111, 27, "reported")


@pytest.mark.parametrize(
    ("name", "tokens_in", "tokens_out"), [("3.1.2/v2_llm_stream", 11, 7), ("stream-agentflow", 3, 8)]
)
def test_a_single_turn_is_counted_once(name, tokens_in, tokens_out):
    assert of_capture(name) == Usage(tokens_in, tokens_out, "reported")


def test_a_json_answer_is_counted_by_its_trace():
    answer = (streams.CAPTURES / "3.1.2" / "v2_llm_json.body").read_bytes()
    assert count(UsageSource(answer=answer)) == Usage(11, 7, "reported")
    raw = (streams.CAPTURES / "nonstream-agentflow.raw").read_bytes()
    assert count(UsageSource(answer=raw.partition(b"\r\n\r\n")[2])) == Usage(3, 8, "reported")


@pytest.mark.parametrize(
    ("name", "member"), [("3.1.2/classic_json.body", "text"), ("nonstream-chain.raw", "text")]
)
def test_a_json_answer_without_trace_is_estimated_from_its_text(name, member):
    answer = (streams.CAPTURES / name).read_bytes().rpartition(b"\r\n\r\n")[2]
    size = len(json.dumps(json.loads(answer)[member], ensure_ascii=False).encode()) - 2
    assert count(UsageSource(answer=answer, question_bytes=9)) == Usage(3, -(-size // 4), "estimated")


def test_a_json_answer_of_structured_output_is_estimated_from_it():
    assert count(UsageSource(answer=b'{"json":{"a":12}}')) == Usage(0, 2, "estimated")


def test_a_classic_stream_is_estimated_from_question_and_answer():
    assert of_stream(streams.captured()["stream-chain"], question_bytes=26) == Usage(7, 10, "estimated")
    assert count(UsageSource()) == Usage(0, 0, "estimated")
    assert count(UsageSource(question_bytes=1, answer_bytes=4)) == Usage(1, 1, "estimated")


def test_all_nodes_loops_and_iterations_are_added():
    evidence = UsageSource(
        executed=executed(entry("a", 1, 2), entry("b", 4, 8, (16, 32), (64, 128)), entry("a", 256, 512))
    )
    assert count(evidence) == Usage(1 + 4 + 16 + 64 + 256, 2 + 8 + 32 + 128 + 512, "reported")


def test_a_resumed_run_counts_only_the_nodes_that_began_in_it():
    trace = executed(entry("before", 100, 100), entry("after", 1, 2))
    assert count(UsageSource(executed=trace, started_nodes=frozenset({"after"}))) == Usage(1, 2, "reported")
    started = frame("nextAgentFlow", {"nodeId": "after", "nodeLabel": "x", "status": "INPROGRESS"})
    assert of_stream(started + b"\n\n" + trace + b"\n\n") == Usage(1, 2, "reported")


def test_only_assistant_messages_are_turns():
    strange = entry("a", 1, 2)
    strange["data"]["input"]["messages"] += [{"role": "user", "usage_metadata": metadata(50, 50)}, 5, None]
    assert count(UsageSource(executed=executed(strange))) == Usage(1, 2, "reported")


def test_the_last_turn_alone_is_the_fallback():
    last = frame("usageMetadata", metadata(11, 7))
    for trace in (None, executed({"nodeId": "a"}), b"data:broken", executed()):
        evidence = UsageSource(executed=trace, usage_metadata=last, answer_bytes=400)
        assert count(evidence) == Usage(11, 7, "reported")


def test_the_trace_wins_over_the_last_turn():
    evidence = UsageSource(
        executed=executed(entry("a", 5, 6)), usage_metadata=frame("usageMetadata", metadata(1, 1))
    )
    assert count(evidence) == Usage(5, 6, "reported")


@pytest.mark.parametrize("value", [-1, True, 1.5, "7", None, [], {}, 10**12 + 1, 10**400])
def test_what_is_no_count_counts_nothing(value):
    usage = count(UsageSource(executed=executed(entry("a", value, 3), entry("b", 2, value))))
    assert usage == Usage(2, 3, "reported")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"data":' * 100_000,
        b'{"data":[NaN]}',
        b'{"data":[{"nodeId":NaN}]}',
        b'{"data":{"a":1}}',
        b'{"data":[[],5,{"data":5},{"data":{"input":[],"output":[]}}]}',
        b'{"data":[{"data":{"output":{"usageMetadata":{"input_tokens":1e999}}}}]}',
        b'{"data":[{"data":{"input":{"messages":{"role":"assistant"}}}}]}',
        b'{"data":[{"nodeId":["a"],"data":{"output":{"usageMetadata":{"input_tokens":5}}}}]}',
        b'{"data":[' + b"[" * 5000 + b"]" * 5000 + b"]}",
        b'{"data":"\xff\xfe"}',
        b'{"data":"\\ud800"}',
    ],
)
def test_hostile_json_is_an_estimate(text):
    for evidence in (
        UsageSource(executed=b"data:" + text, answer_bytes=8),
        UsageSource(usage_metadata=b"data:" + text, answer_bytes=8),
        UsageSource(answer=text.replace(b'"data":[', b'"agentFlowExecutedData":[', 1), answer_bytes=8),
    ):
        assert count(evidence) == Usage(0, 2, "estimated")


def test_one_strange_entry_spoils_only_itself():
    trace = executed(entry("a", 1, 2), {"nodeId": 5, "data": {}}, "x", entry("b", 4, 8))
    assert count(UsageSource(executed=trace)) == Usage(5, 10, "reported")


@given(json_values, json_values)
def test_any_json_is_counted_without_failing(one, other):
    strange = entry("a", one, other)
    for place in ("input", "output"):
        strange["data"] = {**strange["data"], place: other}
        count(UsageSource(executed=executed(strange, one), usage_metadata=frame("usageMetadata", other)))
    count(UsageSource(answer=json.dumps({"text": one, "json": other, "agentFlowExecutedData": one}).encode()))


def test_a_large_trace_is_heavy():
    assert not UsageSource(executed=b"x" * HEAVY).is_heavy
    assert UsageSource(executed=b"x" * HEAVY, answer=b"x").is_heavy


@pytest.mark.parametrize(
    ("data", "node"),
    [
        ({"nodeId": "a", "status": "INPROGRESS"}, "a"),
        ({"nodeId": "a", "status": "FINISHED"}, None),
        ({"nodeId": "", "status": "INPROGRESS"}, None),
        ({"nodeId": "a" * 257, "status": "INPROGRESS"}, None),
        ({"nodeId": 5, "status": "INPROGRESS"}, None),
        ("INPROGRESS", None),
        (None, None),
    ],
)
def test_a_node_has_started_when_it_is_in_progress(data, node):
    assert started_node(frame("nextAgentFlow", data)) == node


@given(st.binary(max_size=80))
def test_no_bytes_make_it_fail(noise):
    count(UsageSource(executed=noise, usage_metadata=noise, answer=noise))
    started_node(b"data:" + noise)


@pytest.mark.parametrize("number", [MOST_ITEMS, MOST_ITEMS + 1])
def test_a_trace_of_too_many_entries_is_not_counted(number):
    source = UsageSource(executed=executed(*[entry("a", 1, 2)] * number), answer_bytes=8)
    is_counted = number == MOST_ITEMS
    assert count(source) == (
        Usage(number, 2 * number, "reported") if is_counted else Usage(0, 2, "estimated")
    )


@pytest.mark.parametrize("more", [0, 1])
def test_a_trace_of_too_many_messages_is_not_counted(more, monkeypatch):
    monkeypatch.setattr(usage_file, "MOST_MESSAGES", 100)
    trace = executed(*[entry("a", 1, 2, *[(1, 1)] * 8)] * 10, *[entry("b", 0, 0)] * more)
    usage = count(UsageSource(executed=trace, answer_bytes=8))
    assert usage == (Usage(0, 2, "estimated") if more else Usage(90, 100, "reported"))


def test_a_node_with_too_many_messages_is_not_counted_but_the_last_turn_is():
    trace = executed(entry("a", 1, 2, *[(1, 1)] * MOST_ITEMS))
    last = frame("usageMetadata", metadata(11, 7))
    assert count(UsageSource(executed=trace, usage_metadata=last)) == Usage(11, 7, "reported")


def test_numbers_in_a_large_metadata_are_not_read():
    large = {"input_tokens": 5, "output_tokens": 6, "details": "x" * 5000}
    trace = executed({"nodeId": "a", "data": {"output": {"usageMetadata": large}}})
    assert count(UsageSource(executed=trace, answer_bytes=8)) == Usage(0, 2, "estimated")


def test_more_than_the_bytes_can_hold_is_implausible():
    most = UNSEEN_TOKENS + 500
    usage = plausible(Usage(most + 7, most, "reported"), 500, 10**9)
    assert usage == Usage(most, most, "reported", implausible_input=7)
    usage = plausible(Usage(3, most + 9, "reported"), 500, 10**9)
    assert usage == Usage(3, most, "reported", implausible_output=9)


def test_more_than_the_configured_tokens_is_implausible():
    assert plausible(Usage(8, 7, "reported"), 500, 7) == Usage(7, 7, "reported", implausible_input=1)
    usage = Usage(7, 7, "reported")
    assert plausible(usage, 500, 7) is usage
