from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.flowise.content_budget import ContentBudget
from gateway.flowise.events import HEAD, error_event
from gateway.flowise.observer import GAP_BOUNDS, KEPT_TRACE, MOST_NODES, OTHER, StreamObserver
from tests.harness import captured_streams as streams

CAPTURED = streams.captured()
EMPTY_TOKEN = b'message:\ndata:{"event":"token","data":""}\n\n'
TOKEN = b'message:\ndata:{"event":"token","data":"tok0 "}\n\n'
THINKING = b'message:\ndata:{"event":"thinking","data":"hm"}\n\n'
METADATA = b'message:\ndata:{"event":"metadata","data":{"chatId":"x"}}\n\n'


def event(name, data):
    return (
        b"message:\ndata:%b\n\n" % json.dumps({"event": name, "data": data}, separators=(",", ":")).encode()
    )


def observed(pieces):
    observer = StreamObserver()
    for piece in pieces:
        observer.feed(piece, 1.0)
    return observer


def facts(pieces):
    observer = observed(pieces)
    seen = {name: getattr(observer, name) for name in StreamObserver.__slots__ if not name.startswith("_")}
    return seen | {
        "events": observer.events,
        "content": observer.has_content,
        "evidence": observer.evidence(),
    }


@pytest.mark.parametrize("name", CAPTURED)
def test_the_counts_of_a_capture_are_those_of_its_json(name):
    body = CAPTURED[name]
    messages = [json.loads(line[5:]) for line in body.split(b"\n") if line.startswith(b"data:")]
    observer = observed([body])
    names = Counter(message["event"] for message in messages)
    assert observer.events == names
    assert observer.has_metadata is ("metadata" in names)
    assert observer.has_error is ("error" in names)
    assert observer.has_end is ("end" in names)
    texts = [message["data"] for message in messages if message["event"] == "token"]
    escaped = [json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in texts]
    assert observer.text_bytes == sum(map(len, escaped))
    assert sum(observer.gap_counts) == max(len([text for text in texts if text]) - 1, 0)


@pytest.mark.parametrize("name", CAPTURED)
def test_the_counts_of_a_capture_are_the_same_whatever_the_cut(name):
    body = CAPTURED[name]
    whole = facts([body])
    for pieces in [
        streams.each_byte(body),
        *streams.random_cuts(body),
        *streams.single_cuts(body, most=6000),
    ]:
        assert facts(pieces) == whole


@given(streams.texts, st.lists(st.integers(0, 10**6), max_size=8))
def test_the_counts_of_any_stream_are_the_same_whatever_the_cut(body, places):
    whole = facts([body])
    assert facts(streams.cut(body, places)) == whole
    assert facts(streams.each_byte(body)) == whole
    blocks = [block for _, block in streams.events(body) if len(block) > len(block.rstrip(b"\r\n"))]
    assert sum(whole["events"].values()) <= len(blocks)


@pytest.mark.parametrize("first", streams.PIECES)
def test_any_two_pieces_count_the_same_byte_by_byte(first):
    for second in streams.PIECES:
        assert facts(streams.each_byte(first + second)) == facts([first + second])


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_no_bytes_make_it_fail(pieces):
    observed(pieces)
    observed([b'message:\ndata:{"event":"nextAgentFlow","data":' + piece + b"\n\n" for piece in pieces])


def test_the_golden_counts():
    observer = observed([CAPTURED["stream-agentflow"]])
    assert observer.events == {
        "agentFlowEvent": 2, "nextAgentFlow": 4, "agentFlowExecutedData": 2, "token": 11,
        "calledTools": 1, "usageMetadata": 1, "metadata": 1, "end": 1,
    }  # fmt: skip
    assert observer.text_bytes == 8 * len("tok0 ")
    assert observer.evidence().started_nodes == {"startAgentflow_0", "llmAgentflow_0"}
    burst = observed([CAPTURED["stream-chain-burst"]])
    assert burst.events == {"start": 1, "token": 400, "metadata": 1, "end": 1}
    heartbeats = CAPTURED["stream-chain-heartbeat"]
    assert b":heartbeat\n\n" in heartbeats
    assert OTHER not in observed([heartbeats]).events


def test_the_documented_form_is_counted():
    names = ["start", "token", "error", "end", "metadata", "sourceDocuments", "usedTools"]
    body = b"".join(b"event: %b\ndata: hello\n\n" % name.encode() for name in names)
    observer = observed([body])
    assert observer.events == dict.fromkeys(names, 1)
    assert observer.text_bytes == 5
    assert observer.has_error
    assert observer.has_end
    assert observer.has_metadata


def test_frames_without_colon_are_counted():
    observer = observed([b'message\ndata:{"event":"error","data":"x"}\n\nmessage\ndata:{"event":"end"}\n\n'])
    assert observer.has_error
    assert observer.has_end


def test_unknown_and_nameless_events_are_counted_together():
    observer = observed([event("mine", 1), b"data:[DONE]\n\n", b"event: x\n\n", b":c\n\n", b"id:5\n\n"])
    assert observer.events == {OTHER: 3}


def test_the_first_event_is_no_comment_and_the_first_token_is_not_empty():
    observer = StreamObserver()
    for now, piece in enumerate([b":heartbeat\n\n", event("start", ""), EMPTY_TOKEN, TOKEN, TOKEN]):
        observer.feed(piece, float(now))
    assert observer.first_event_at == 1.0
    assert observer.first_token_at == 3.0


def test_thinking_is_a_first_token_but_no_content():
    observer = StreamObserver()
    observer.feed(EMPTY_TOKEN, 1.0)
    observer.feed(THINKING + event("thinking", ""), 2.0)
    assert observer.first_event_at == 1.0
    assert observer.first_token_at == 2.0
    assert not observer.has_content
    assert observer.text_bytes == 0
    assert sum(observer.gap_counts) == 0


def test_an_event_counts_when_its_boundary_came():
    observer = StreamObserver()
    observer.feed(TOKEN[:-1], 1.0)
    assert observer.first_event_at is None
    observer.feed(TOKEN[-1:], 2.0)
    assert observer.first_token_at == 2.0


def test_gaps_are_between_tokens_that_are_not_empty():
    observer, times = StreamObserver(), [1.0, 1.025, 1.026, 4.026]
    for now, piece in zip(times, (TOKEN, THINKING, EMPTY_TOKEN, TOKEN), strict=True):
        observer.feed(piece, now)
    assert sum(observer.gap_counts) == 2
    assert observer.gap_counts[-1] == 1
    assert observer.gap_sum == pytest.approx(3.026)


@pytest.mark.parametrize("place", range(len(GAP_BOUNDS)))
def test_a_gap_equal_to_a_bound_belongs_to_it(place):
    observer = StreamObserver()
    observer.feed(TOKEN, 0.0)
    observer.feed(TOKEN, GAP_BOUNDS[place])
    assert observer.gap_counts[place] == 1


def test_tokens_of_one_read_have_no_gap_between_them():
    observer = observed([TOKEN * 3])
    assert observer.gap_counts[0] == 2
    assert observer.gap_sum == 0.0
    assert all(low < high for low, high in pairwise(GAP_BOUNDS))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("token", "x"),
        ("action", {"id": 1}),
        ("artifacts", [1]),
        ("usedTools", [1]),
        ("calledTools", [1]),
        ("tool", "x"),
    ],
)
def test_content_is_something_for_the_user(name, content):
    assert observed([event(name, content)]).has_content
    assert not observed([event(name, type(content)())]).has_content
    assert observed([event(name, type(content)()), event(name, content), event(name, None)]).has_content


def test_other_events_are_no_content():
    assert not observed([event("start", "x"), event("sourceDocuments", [1]), METADATA]).has_content


def test_a_token_larger_than_the_head_is_counted_by_its_size():
    body = event("token", "x" * 20_000) + b"event: token\ndata: " + b"y" * 20_000 + b"\n\n"
    whole = facts([body])
    assert whole["events"] == {"token": 2}
    assert 40_000 <= whole["text_bytes"] <= 40_100
    for place in range(100, len(body), 5000):
        assert facts([body[:place], body[place : place + 200], body[place + 200 :]]) == whole


def test_the_last_trace_is_kept_alone():
    first, second = event("agentFlowExecutedData", [1]), event("agentFlowExecutedData", [1, 2])
    assert observed([first + second + METADATA]).evidence().executed == second.rstrip(b"\n")


def test_a_trace_up_to_the_limit_is_kept_and_a_larger_one_given_up():
    frame = len(event("agentFlowExecutedData", "").rstrip(b"\n"))
    for size, is_kept in ((KEPT_TRACE - frame, True), (KEPT_TRACE - frame + 1, False)):
        body = event("agentFlowExecutedData", [1]) + event("agentFlowExecutedData", "x" * size) + TOKEN
        for pieces in ([body], [body[at : at + 65536] for at in range(0, len(body), 65536)]):
            observer = observed(pieces)
            assert observer.uncounted == ("" if is_kept else "trace_too_large")
            assert (observer.evidence().executed is not None) is is_kept
            assert observer.events == {"agentFlowExecutedData": 2, "token": 1}


def test_an_unfinished_event_of_any_size_takes_bounded_memory():
    for name, most in (("metadata", HEAD), ("agentFlowExecutedData", KEPT_TRACE)):
        observer = observed([event(name, "")[:-4]])
        for _ in range(100):
            observer.feed(b"x" * 65536, 1.0)
        assert len(observer._partial._held) == most


def test_above_the_limit_of_nodes_all_entries_count():
    nodes = [{"nodeId": f"n{number}", "status": "INPROGRESS"} for number in range(MOST_NODES + 1)]
    frames = [event("nextAgentFlow", node) for node in nodes]
    assert len(observed(frames[:-1]).evidence().started_nodes) == MOST_NODES
    assert observed(frames).evidence().started_nodes is None


def test_without_any_node_seen_all_count():
    assert observed([TOKEN]).evidence(40).started_nodes is None
    assert observed([TOKEN]).evidence(40).question_bytes == 40
    assert observed([TOKEN]).evidence(40).answer_bytes == 5


def in_reads(body, size):
    return [body[at : at + size] for at in range(0, len(body), size)]


@pytest.mark.parametrize("size", [1000, 16384, 10**6])
def test_a_trace_beyond_the_budget_is_given_up_and_its_memory_free_again(size):
    budget = ContentBudget(30_000)
    observer = StreamObserver(budget)
    small, large = event("agentFlowExecutedData", "x" * 9000), event("agentFlowExecutedData", "x" * 40_000)
    for piece in in_reads(small, size):
        observer.feed(piece, 1.0)
    assert observer.evidence().executed is not None
    assert budget.used == len(small) - 2
    for piece in in_reads(large, size):
        observer.feed(piece, 1.0)
    assert (observer.uncounted, observer.evidence().executed) == ("trace_over_budget", None)
    assert budget.used == 0
    for piece in in_reads(small + METADATA, size):
        observer.feed(piece, 1.0)
    assert (observer.uncounted, observer.events) == ("", {"agentFlowExecutedData": 3, "metadata": 1})
    observer.release()
    assert budget.used == 0


def test_an_unfinished_trace_is_released_too():
    budget = ContentBudget()
    observer = StreamObserver(budget)
    observer.feed(event("agentFlowExecutedData", "x" * 40_000)[:-2], 1.0)
    assert budget.used > 40_000
    observer.release()
    assert budget.used == 0


def test_other_events_take_nothing_of_the_budget():
    observer = StreamObserver(ContentBudget(0))
    for piece in in_reads(event("sourceDocuments", "x" * 40_000) + TOKEN, 1000):
        observer.feed(piece, 1.0)
    assert observer.events == {"sourceDocuments": 1, "token": 1}


def test_the_first_error_is_kept_up_to_a_bound():
    observer = StreamObserver()
    observer.feed(error_event("first") + error_event("second"), 0.0)
    assert observer.error == error_event("first").rstrip()
    for cut in (1, 7, 5000, 20_000):
        large = StreamObserver()
        body = error_event("x" * 10_000)
        for at in range(0, len(body), cut):
            large.feed(body[at : at + cut], 0.0)
        assert large.error == body[:HEAD]
        assert large.has_error
