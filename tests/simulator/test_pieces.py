"""The pure pieces: frames, JavaScript's numbers, directives, broken bodies."""

from __future__ import annotations

import hashlib
import json

import pytest

from gateway.simulator import CHAIN_ID, Close, Delay, Event, Fail, Flow, Hang, Simulator, Token, frame
from gateway.simulator.bodies import RawBody, parse_body
from gateway.simulator.prompt_directives import model_reply
from gateway.simulator.replies import FlowiseError
from gateway.simulator.steps import number
from tests.harness import recorded_requests as requests
from tests.harness.exact_client import Wire, ask


def steps_of(question):
    return [step for step in model_reply(question).steps if not isinstance(step, Delay)]


def test_a_frame_without_data_has_no_such_key():
    assert frame(Event("sourceDocuments")) == b'message:\ndata:{"event":"sourceDocuments"}\n\n'
    assert frame(Event("x", None)) == b'message:\ndata:{"event":"x","data":null}\n\n'


def test_a_frame_escapes_what_javascript_escapes_and_no_more():
    framed = frame(Event("token", 'é\u2028\n"\x7f/'))
    assert framed == 'message:\ndata:{"event":"token","data":"é\u2028\\n\\"\x7f/"}\n\n'.encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4.8e-6, b"0.0000048"),
        (4.5e-7, b"4.5e-7"),
        (0.0, b"0"),
        (3.0, b"3"),
        (0.25, b"0.25"),
        (1.5e-12, b"1.5e-12"),
    ],
)
def test_numbers_look_as_in_javascript(value, text):
    assert bytes(number(value)) == text


def test_a_question_without_directives_gets_a_greeting_and_no_question_twelve_tokens():
    assert "simulator" in "".join(step.text for step in steps_of("hello?"))
    assert steps_of("") == [Token(f"tok{index} ") for index in range(12)]


def test_used_tools_are_told_behind_the_tokens():
    told = steps_of("a [[tokens=1 tools=2 delay=0]]")[-1]
    assert (told.name, len(told.data)) == ("usedTools", 2)


def test_directives_shape_the_answer():
    assert list(model_reply("a [[tokens=2 delay=0.5 text=ho]]").steps) == [
        Token("ho "),
        Delay(0.5),
        Token("ho "),
        Delay(0.5),
    ]
    assert model_reply("a [[first=2]]").before == 2
    assert len(steps_of("a [[tokens=1 size=40]]")[0].text) == 40
    assert steps_of("a [[tokens=1]] b [[tokens=2]]") == [Token("tok0 "), Token("tok1 ")]


@pytest.mark.parametrize(
    ("directive", "end"),
    [
        ("cut=1", Fail("terminated")),
        ("cut=1 how=rst", Fail("terminated")),
        ("cut=1 how=error", Fail("fake mid-stream failure")),
        ("cut=1 how=hang", Hang()),
        ("die=1", Close("fin")),
    ],
)
def test_an_answer_may_break_off(directive, end):
    assert steps_of(f"a [[tokens=5 {directive}]]") == [Token("tok0 "), end]


@pytest.mark.parametrize(
    ("directive", "part"),
    [("tokens=many", "`$.tokens`"), ("wings=2", "wings"), ("cut=1 how=softly", "how=softly")],
)
def test_an_invalid_directive_is_explained(directive, part):
    failure = model_reply(f"a [[{directive}]]").failure
    assert part in failure
    assert "[[tokens=50 delay=0.1]]" in failure


def raw_body(raw):
    return RawBody(raw, len(raw), hashlib.sha256(raw).hexdigest(), raw[-200:])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"a":', "Unexpected end of JSON input"),
        (b'{"a":fals', "Unexpected end of JSON input"),
        (b'{"a":falsy}', 'Unexpected token \'y\', "{"a":falsy}" is not valid JSON'),
        (b'{"a":NaN}', 'Unexpected token \'N\', "{"a":NaN}" is not valid JSON'),
        (b"[1]]", "Unexpected non-whitespace character after JSON at position 3 (line 1 column 4)"),
        (b"7", "Unexpected token '7', \"7\" is not valid JSON"),
    ],
)
def test_malformed_json_has_the_message_of_node(raw, message):
    with pytest.raises(FlowiseError) as refused:
        parse_body(raw_body(raw), "application/json; charset=utf-8")
    assert (refused.value.status, refused.value.message) == (400, message)


async def test_a_multipart_body_above_the_limit_is_read_and_only_its_beginning_kept():
    data = requests.multipart(f"prediction/{CHAIN_ID}", {"question": "hi [[tokens=0]]"}, {"a": "x" * 300_000})
    body = data.partition(b"\r\n\r\n")[2]
    async with Simulator(max_body=1000) as flowise:
        got = await ask(flowise.url, data)
        request = flowise.requests[0]
        too_large = await ask(flowise.url, requests.ask(CHAIN_ID, "x" * 1000))
    assert json.loads(got.partition(b"\r\n\r\n")[2])["question"] == "hi [[tokens=0]]"
    assert request.raw == body[:1000]
    assert (request.raw_body.size, request.raw_body.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert too_large.startswith(b"HTTP/1.1 413 Payload Too Large\r\n")


async def test_a_body_announced_as_too_large_is_refused_unread():
    async with Simulator(max_body=1000) as flowise, await Wire.to(flowise.url) as wire:
        wire.send(requests.ask(CHAIN_ID).replace(b"Content-Length: 18", b"Content-Length: 1001"))
        assert (await wire.response()).startswith(b"HTTP/1.1 413 ")


def test_origins_are_compared_by_host_and_port():
    flow = Flow(id=CHAIN_ID, name="x", allowed_origins=("https://good.example:8443",))
    assert flow.allows("http://good.example:8443")
    assert not flow.allows("https://good.example")
    with pytest.raises(ValueError, match="Invalid URL"):
        flow.allows("null")
