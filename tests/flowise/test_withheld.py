from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.errors import UpstreamBadReply
from gateway.flowise.events import EVENT_NAMES
from gateway.flowise.withheld import repeating, without_withheld

CAPTURES = Path(__file__).parent.parent / "captures"


@pytest.mark.parametrize(
    ("answer", "event", "left"),
    [
        ('{"usedTools":1,"text":"a","usedTools":2}', "usedTools", '{"text":"a"}'),
        ('{"\\u0075sedTools":1,"text":"a"}', "usedTools", '{"text":"a"}'),
        ('\ufeff {"text" : "é\\u00e9" ,\n "usedTools" : [1 , 2]}\n', "usedTools", '{"text" : "é\\u00e9"}'),
        ('{"a\\ud800":"\\udc00","usedTools":2}', "usedTools", '{"a\\ud800":"\\udc00"}'),
        ('{"usedTools":"}"}', "usedTools", "{}"),
        ('{"mine":1,"text":"a"}', "mine", '{"text":"a"}'),
        ('{"json":{"a":1},"assistant":{"messages":[]},"chatId":"c"}', "token", '{"chatId":"c"}'),
        ('{"reasonContent":{"thinking":"t"},"text":"a"}', "thinking", '{"text":"a"}'),
        ('{"metrics":[1],"usageMetadata":{},"text":"a"}', "usageMetadata", '{"text":"a"}'),
    ],
)
def test_a_member_is_taken_out_and_the_others_keep_their_bytes(answer, event, left):
    assert without_withheld(answer.encode(), {event}) == left.encode()


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b' \r\n{"text" : "a"}\n',
        b'\xef\xbb\xbf{"text":"a"}',
        b'{"UsedTools":1,"usedtools":2,"usedTools ":3}',
        b'{"text":"usedTools","a":{"usedTools":1}}',
        b'{"a":[{"usedTools":1},"\\ud83d"]}',
    ],
)
def test_an_answer_without_the_member_is_the_same_object(answer):
    assert without_withheld(answer, {"usedTools"}) is answer


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b" ",
        b"null",
        b'"usedTools"',
        b'[{"usedTools":1}]',
        b'{"usedTools":1',
        b'{"text":"a"}{"usedTools":1}',
        b'{"text":"a"}\x00{"usedTools":1}',
        b'{"text":NaN,"usedTools":1}',
        b"{'usedTools':1}",
        b"{usedTools:1}",
        b'{"a":1 "usedTools":1}',
        b'{"a":1,}',
        b'{"a":1/*,*/,"usedTools":1}',
        b'{"used\xffTools":1}',
        '{"usedTools":1}'.encode("utf-16"),
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"{" + b",".join(b'"a%d":1' % number for number in range(257)) + b"}",
    ],
)
def test_what_is_no_json_object_or_above_a_bound_is_refused(answer):
    with pytest.raises(UpstreamBadReply, match="cannot be looked into: it "):
        without_withheld(answer, {"usedTools"})


def body_of(name):
    path = CAPTURES / name
    return path.read_bytes() if path.suffix == ".body" else path.read_bytes().partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("capture", "event", "gone"),
    [
        ("3.1.2/toolagent_json.body", "usedTools", {"usedTools"}),
        ("3.1.2/toolagent_json.body", "token", {"text"}),
        ("3.1.2/classic_json.body", "sourceDocuments", set()),
        ("nonstream-agentflow.raw", "agentFlowExecutedData", {"agentFlowExecutedData"}),
        ("nonstream-agentflow.raw", "metadata", {"chatId", "chatMessageId", "question", "sessionId"}),
        (
            "nonstream-chain.raw",
            "metadata",
            {"chatId", "chatMessageId", "question", "sessionId", "memoryType"},
        ),
    ],
)
def test_answers_of_a_real_flowise(capture, event, gone):
    answer = json.loads(body_of(capture))
    left = json.loads(without_withheld(body_of(capture), {event}))
    assert left == {name: value for name, value in answer.items() if name not in gone}
    assert gone <= answer.keys()


def test_metadata_takes_out_what_the_event_has_and_no_more():
    """A stream sends `action` as an event of its own, too: to withhold metadata does not withhold it."""
    stream = (CAPTURES / "stream-chain.raw").read_bytes().decode()
    event = json.loads(stream.partition('{"event":"metadata","data":')[2].partition("}}")[0] + "}")
    answer = dict.fromkeys([*event, "followUpPrompts", "flowVariables", "action", "text", "executionId"], 1)
    left = json.loads(without_withheld(json.dumps(answer).encode(), {"metadata"}))
    assert left.keys() == {"action", "text", "executionId"}


def test_every_event_can_be_withheld_from_an_answer():
    answer = json.dumps(dict.fromkeys([*EVENT_NAMES, "form"], 1)).encode()
    assert without_withheld(answer, EVENT_NAMES) == b'{"form": 1}'


@pytest.mark.parametrize(
    ("events", "traces"),
    [
        (set(), []),
        ({"agentFlowExecutedData"}, []),
        ({"metadata", "end", "mine"}, []),
        ({"usedTools"}, ["agentFlowExecutedData", "agentReasoning", "agent_trace"]),
        ({"usedTools", "agentReasoning", "agent_trace"}, ["agentFlowExecutedData"]),
        ({"usedTools", "agentReasoning", "agent_trace", "agentFlowExecutedData"}, []),
        ({"nextAgent"}, ["agentReasoning"]),
        ({"calledTools"}, ["agentFlowExecutedData"]),
    ],
)
def test_traces_that_repeat_what_is_withheld(events, traces):
    assert repeating(events) == traces
