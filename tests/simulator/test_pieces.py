"""The pure pieces: frames, JavaScript's numbers, the question's wishes, broken bodies."""

from __future__ import annotations

import hashlib
import json

import pytest

from gateway.simulator import CHAIN_ID, Close, Delay, Event, Fail, Flow, Hang, Simulator, Token, frame
from gateway.simulator.bodies import Received, understand
from gateway.simulator.prompt_directives import model
from gateway.simulator.replies import Refusal
from gateway.simulator.steps import number
from tests.harness import recorded_requests as requests
from tests.harness.exact_client import Wire, ask


def spoken(question):
    return [step for step in model(question).steps if not isinstance(step, Delay)]


def test_a_frame_without_data_has_no_such_key():
    assert frame(Event("sourceDocuments")) == b'message:\ndata:{"event":"sourceDocuments"}\n\n'
    assert frame(Event("x", None)) == b'message:\ndata:{"event":"x","data":null}\n\n'


def test_a_frame_escapes_what_javascript_escapes_and_no_more():
    told = frame(Event("token", 'é\u2028\n"\x7f/'))
    assert told == 'message:\ndata:{"event":"token","data":"é\u2028\\n\\"\x7f/"}\n\n'.encode()


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


def test_a_question_without_wishes_gets_a_friendly_answer_and_no_question_twelve_tokens():
    assert "simulator" in "".join(step.text for step in spoken("hello?"))
    assert spoken("") == [Token(f"tok{index} ") for index in range(12)]


def test_wishes_shape_the_answer():
    assert list(model("a [[tokens=2 delay=0.5 text=ho]]").steps) == [
        Token("ho "),
        Delay(0.5),
        Token("ho "),
        Delay(0.5),
    ]
    assert model("a [[first=2]]").before == 2
    assert len(spoken("a [[tokens=1 size=40]]")[0].text) == 40
    assert spoken("a [[tokens=1]] b [[tokens=2]]") == [Token("tok0 "), Token("tok1 ")]


@pytest.mark.parametrize(
    ("wish", "end"),
    [
        ("cut=1", Fail("terminated")),
        ("cut=1 how=rst", Fail("terminated")),
        ("cut=1 how=error", Fail("fake mid-stream failure")),
        ("cut=1 how=hang", Hang()),
        ("die=1", Close("fin")),
    ],
)
def test_an_answer_may_break_off(wish, end):
    assert spoken(f"a [[tokens=5 {wish}]]") == [Token("tok0 "), end]


@pytest.mark.parametrize(
    ("wish", "said"),
    [("tokens=many", "`$.tokens`"), ("wings=2", "wings"), ("cut=1 how=softly", "how=softly")],
)
def test_a_wish_that_makes_no_sense_is_told(wish, said):
    failure = model(f"a [[{wish}]]").failure
    assert said in failure
    assert "[[tokens=50 delay=0.1]]" in failure


def received(raw):
    return Received(raw, len(raw), hashlib.sha256(raw).hexdigest(), raw[-200:])


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
def test_malformed_json_is_refused_in_words_of_node(raw, message):
    with pytest.raises(Refusal) as refused:
        understand(received(raw), "application/json; charset=utf-8")
    assert (refused.value.status, refused.value.message) == (400, message)


async def test_a_multipart_body_above_the_limit_is_read_and_only_its_beginning_kept():
    data = requests.multipart(f"prediction/{CHAIN_ID}", {"question": "hi [[tokens=0]]"}, {"a": "x" * 300_000})
    body = data.partition(b"\r\n\r\n")[2]
    async with Simulator(max_body=1000) as flowise:
        got = await ask(flowise.url, data)
        asked = flowise.asked[0]
        too_large = await ask(flowise.url, requests.ask(CHAIN_ID, "x" * 1000))
    assert json.loads(got.partition(b"\r\n\r\n")[2])["question"] == "hi [[tokens=0]]"
    assert asked.raw == body[:1000]
    assert (asked.received.size, asked.received.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert too_large.startswith(b"HTTP/1.1 413 Payload Too Large\r\n")


async def test_a_body_that_is_announced_too_large_is_refused_unread():
    async with Simulator(max_body=1000) as flowise, await Wire.to(flowise.url) as wire:
        wire.send(requests.ask(CHAIN_ID).replace(b"Content-Length: 18", b"Content-Length: 1001"))
        assert (await wire.response()).startswith(b"HTTP/1.1 413 ")


def test_origins_are_compared_by_host_and_port():
    flow = Flow(id=CHAIN_ID, name="x", allowed_origins=("https://good.example:8443",))
    assert flow.allows("http://good.example:8443")
    assert not flow.allows("https://good.example")
    with pytest.raises(ValueError, match="Invalid URL"):
        flow.allows("null")
