from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.flowise.events import (
    END_EVENT,
    EVENT_NAMES,
    HEAD,
    HEARTBEAT,
    content_size,
    error_event,
    event_name,
    event_text,
    is_comment,
    payload,
)
from tests.harness import bounds
from tests.harness import captured_streams as streams

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", streams.captured())
def test_the_names_of_a_capture_are_those_of_its_json(name):
    body = streams.captured()[name]
    found = Counter(event_name(event) for _, event in streams.events(body))
    lines = [line[5:] for line in body.split(b"\n") if line.startswith(b"data:")]
    complete = Counter(json.loads(line)["event"] for line in lines)
    del found[None]
    assert found == complete
    assert set(found) <= EVENT_NAMES


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b'message:\ndata:{"event":"token","data":"x"}\n\n', "token"),
        (b'message\ndata:{"event":"end","data":"[DONE]"}\n\n', "end"),
        (b'message:\r\ndata:{"event":"tts_data"}\r\n\r\n', "tts_data"),
        (b'message:\rdata:{"event":"agent_trace"}\r\r', "agent_trace"),
        (b"event: token\ndata: hello\n\n", "token"),
        (b"event:token\ndata:hello\n\n", "token"),
        (b"data: hello\nevent: token\n\n", "token"),
        (b'event: token\ndata: {"event":"end"}\n\n', "token"),
        (b'event:\ndata: {"event":"end"}\n\n', "end"),
        (b'data:{"event":"start"}\n\n', "start"),
        (b'data: { "data" : {"event":"inner"} , "event" : "metadata" }\n\n', "metadata"),
        (b'data:{"data":["event","x"],"x":"event","event":"end"}\n\n', "end"),
        (b'data:{"\\u0065vent":"to\\u006ben"}\n\n', "token"),
        (b'data:{"a\\"b":"\\\\","event":"end"}\n\n', "end"),
        (b'data:{"data":1,\ndata:"event":"end"}\n\n', "end"),
        (b'data:{"event":"my event"}\n\n', "my event"),
        (b'data:{"event":"token","data":"cut o', "token"),
        (b':c\n:d\nmessage:\ndata:{"event":"end"}\n\n', "end"),
        (b'\n\r\nmessage:\ndata:{"event":"end"}\n\n', "end"),
        (b'\xef\xbb\xbfmessage:\ndata:{"event":"end"}\n\n', "end"),
        (b"\xef\xbb\xbf\nevent:end\n\n", "end"),
        (b"\xef\xbb\xbfevent:end\n\n", "end"),
        (b"id: 4\nretry: 5\nevent: end\n\n", "end"),
        ("event: é\u2028x\n\n".encode(), "é\u2028x"),
    ],
)  # fmt: skip
def test_a_name_is_found(head, name):
    assert event_name(head) == name


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\n\n",
        b":heartbeat\n\n",
        b"data:\n\n",
        b"data:[DONE]\n\n",
        b'data:["event","end"]\n\n',
        b'data:"event"\n\n',
        b'data:{"event":null,"x":1}\n\n',
        b'data:{"event":5}\n\n',
        b'data:{"event":{"event":"end"}}\n\n',
        b'data:{"event":""}\n\n',
        b'data:{"x":{"event":"end"}}\n\n',
        b'data:{}{"event":"end"}\n\n',
        b'data:{"event":"tok',
        b'data:{"event":"a\\ud800"}\n\n',
        b"events: end\n\n",
        b"event\n\n",
        b" event: end\n\n",
        b'message:\ndata:{"event":"' + b"n" * HEAD + b'"}\n\n',
        b":" + b"c" * HEAD + b"\nevent: end\n\n",
        b":" + b"c" * (HEAD - 11) + b"\nevent: token\n\n",
        b"\n" * (HEAD + 1),
    ],
)
def test_there_is_no_name(head):
    assert event_name(head) is None


@given(st.sampled_from(sorted(EVENT_NAMES)), st.dictionaries(st.text(max_size=9), json_values, max_size=3))
def test_a_name_is_found_wherever_it_stands_in_the_object(name, members):
    members = {key: value for key, value in members.items() if key != "event"}
    text = json.dumps({**members, "event": name, "tail": [1]})
    if len(text) < HEAD - 10:
        assert event_name(b"data: " + text.encode() + b"\n\n") == name


@given(st.binary(max_size=200), st.text('{}[]":,\\event\n\r', max_size=60))
def test_no_bytes_make_it_fail(noise, text):
    for head in (
        noise,
        text.encode(),
        b"data:{" + noise,
        b"data:" + text.encode(),
        b'data:{"event":' + noise,
    ):
        event_name(head)
        is_comment(head)
        content_size(head)


@pytest.mark.timeout(bounds.TEST / 5)
@pytest.mark.parametrize("noise", [b'\\"' * 2048, b"[" * 4096, b'"' * 4096, b'"\\' * 2048, b'{"a":' * 819])
def test_hostile_json_takes_no_time_that_matters(noise):
    for _ in range(50):
        event_name(b'data:{"' + noise)
        content_size(b'data:{"event":' + noise[:HEAD])


@pytest.mark.parametrize(
    ("block", "is_no_event"),
    [
        (b":heartbeat\n\n", True),
        (b"id: 4\n\n", True),
        (b"message:\n\n", True),
        (b":c\ndata:x\n\n", False),
        (b"data\n\n", False),
        (b"event: x\n\n", False),
    ],
)
def test_a_block_without_name_and_data_is_a_comment(block, is_no_event):
    assert is_comment(block) is is_no_event


@pytest.mark.parametrize(
    ("event", "size"),
    [
        (b'message:\ndata:{"event":"token","data":"tok0 "}\n\n', 5),
        (b'data:{"data":"a\\nb","event":"token"}', 4),
        (b'message:\ndata:{"event":"token","data":""}\n\n', 0),
        (b'message:\ndata:{"event":"calledTools","data":[]}\n\n', 0),
        (b'message:\ndata:{"event":"action","data":{}}\n\n', 0),
        (b'message:\ndata:{"event":"token","data":null}\n\n', 0),
        (b'message:\ndata:{"event":"token"}\n\n', 0),
        (b'message:\ndata:{"event":"token","data":12}\n\n', 2),
        (b'message:\ndata:{"event":"usedTools","data":[1]}\n\n', 3),
        (b"event: token\ndata: hello\n\n", 5),
        (b"event: token\ndata:\n\n", 0),
        (b'event: token\ndata: ""\n\n', 0),
        (b'event: token\ndata: "\n\n', 1),
        (b"event: token\ndata: a\ndata: b\n\n", 3),
        (b":c\n\n", 0),
    ],
)
def test_what_an_event_carries(event, size):
    assert content_size(event) == size


def test_a_payload_is_the_data_lines():
    assert payload(b"\xef\xbb\xbfmessage:\r\ndata: a\rdata:  b\ndata\n\n") == b"a\n b\n"


def test_written_events_are_like_those_of_flowise():
    for name in ("3.1.2/classic_midfail_stream", "stream-chain-llm-400"):
        body = streams.captured()[name]
        error = next(event for _, event in streams.events(body) if event_name(event) == "error")
        assert error_event(json.loads(payload(error))["data"]) == error
        assert body.endswith(END_EVENT)
    assert HEARTBEAT == b":\n\n"


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_makes_one_error_event_of_one_line(text):
    frame = error_event(text)
    assert len(frame.splitlines()) == 3
    assert json.loads(payload(frame)) == {"event": "error", "data": text}


def test_a_lone_surrogate_does_not_break_an_error_event():
    assert json.loads(payload(error_event("a\ud800b")))["data"] == "a?b"


TEXT = 'a \u00e9 \U0001f600 "quoted" \n line'


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (error_event(TEXT), TEXT),
        (b'message\ndata:{"event":"error","data":"old"}\n\n', "old"),
        (b"event: error\ndata: documented\n\n", "documented"),
        (b'data: {"data": "any order", "event": "error"}\n\n', "any order"),
        (b'message:\ndata:{"event":"error","data":{"a":1}}\n\n', ""),
        (b'message:\ndata:{"event":"error"}\n\n', ""),
    ],
)
def test_the_text_of_an_event(event, text):
    assert event_text(event) == text


def test_the_text_of_an_event_that_is_cut_anywhere():
    escaped = json.dumps({"event": "error", "data": TEXT}, separators=(",", ":")).encode()
    for written in (error_event(TEXT), b"message:\ndata:" + escaped + b"\n\n"):
        begin = written.index(b'"data":"') + len(b'"data":"')
        assert event_text(written[:begin]) == ""
        for end in range(begin + 1, len(written)):
            text = event_text(written[:end])
            assert text, end
            assert TEXT.startswith(text), end
