"""The gateway in front of a real Flowise: identical answers, and correct behaviour where Flowise alone fails."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import uuid

import pytest

from tests.e2e.conftest import routes
from tests.harness import bounds
from tests.harness.predictions import ask, asked, events, lines_of, saw, unique
from tests.harness.processes import serving, spawn
from tests.harness.programs import program
from tests.harness.widget import CLIENTS, chromium, clients

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(6 * bounds.TEST)]

# Differs between two runs of one question.
_VOLATILE = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"chatcmpl-\w+|run-\w+"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r'(\\*"(?:created|start|end|delta|time|timestamp|n)\\*":) ?\d+'), r"\1 0"),
)


def normalised(body: bytes) -> str:
    """A body without its heartbeats, ids and times."""
    text = body.decode().replace(":heartbeat\n\n", "")
    for pattern, word in _VOLATILE:
        text = pattern.sub(word, text)
    return text


@pytest.mark.parametrize("flow", ["chain", "agentflow"])
@pytest.mark.parametrize("streaming", [True, False])
async def test_an_answer_equals_the_direct_one(flowise, gateway, flow, streaming):
    question = unique("tokens=6")
    direct = await ask(flowise["url"], flowise["flows"][flow], question, streaming=streaming)
    passed = await ask(gateway.url, flow, question, streaming=streaming)
    by_id = await ask(gateway.url, flowise["flows"][flow], question, streaming=streaming)
    assert passed[:2] == by_id[:2] == direct[:2]
    assert normalised(passed[2]) == normalised(by_id[2]) == normalised(direct[2])
    line = await gateway.until("request")
    assert (line["outcome"], line["status"], line["route"]) == ("ok", 200, flow)


@pytest.mark.parametrize(
    ("flow", "event", "gone"),
    [
        ("agentflow", "agentFlowExecutedData", {"agentFlowExecutedData"}),
        ("agentflow", "token", {"text"}),
        ("chain", "token", {"text"}),
        ("chain", "metadata", {"chatId", "chatMessageId", "question", "sessionId", "memoryType"}),
        ("chain", "usedTools", set()),
    ],
)
async def test_what_is_withheld_is_in_no_answer(flowise, tmp_path, flow, event, gone):
    withholding = routes(flowise, auth=["anonymous"], events={"withhold": [event]})
    async with serving(tmp_path, flowise["url"], routes=withholding) as child:
        url, question = f"http://{child.host}:{child.port}", unique("tokens=6")
        status, _, direct = await ask(flowise["url"], flowise["flows"][flow], question, streaming=False)
        *_, body = await ask(url, flow, question, streaming=False)
        line = await child.until("request")
        *_, streamed = await ask(url, flow, question)
    assert status == 200
    assert json.loads(direct).keys() - json.loads(body).keys() == gone
    assert (line["outcome"], line["bytes_out"]) == ("ok", len(body))
    assert (line["token_source"] == "reported") is (flow == "agentflow")
    assert events(streamed, event) == []
    assert events(streamed, "end") == ["[DONE]"]


async def test_the_tokens_of_an_agentflow_are_those_that_the_model_reported(gateway):
    await ask(gateway.url, "agentflow", unique("tokens=9"))
    line = await gateway.until("request")
    assert (line["token_source"], line["tokens_out"]) == ("reported", 9)
    assert line["ttft_s"] > 0


async def test_curl_with_the_documented_plural_path(gateway):
    program("curl")
    body = json.dumps({"question": unique("tokens=3"), "streaming": True})
    url = f"{gateway.url}/api/v1/predictions/chain"
    process = await spawn(
        *("curl", "-sS", url, "-X", "POST", "-H", "Content-Type: application/json", "-d", body)
    )
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert "".join(events(out, "token")) == "tok0 tok1 tok2 "


async def test_the_python_sdk_as_documented(gateway):
    python = os.environ.get("FLOWISE_PYTHON", sys.executable)
    command = (python, str(CLIENTS / "documented.py"))
    lines = await lines_of(*command, gateway.url, "chain", unique("tokens=4 delay=0.1"))
    found = [json.loads(line) for line in lines if line.startswith("{")]
    assert [event["data"] for event in found if event["event"] == "token"] == [f"tok{at} " for at in range(4)]
    assert found[-1] == {"event": "end", "data": "[DONE]"}


async def test_the_typescript_sdk_as_documented(gateway):
    command = (
        "node",
        str(CLIENTS / "documented.mjs"),
        gateway.url,
        "agentflow",
        unique("tokens=4 delay=0.1"),
    )
    found = [json.loads(line) for line in await lines_of(*command, folder=clients())]
    tokens = [event["data"] for event in found if event["event"] == "token" and event["data"]]
    assert tokens == [f"tok{at} " for at in range(4)]
    assert found[-1] == {"event": "end", "data": "[DONE]"}


async def test_the_widget_shows_the_answer_as_it_grows(gateway):
    question = unique("tokens=8 delay=0.2")
    command = ("node", str(CLIENTS / "widget.mjs"), gateway.url, "chain", question, "tok7", chromium())
    texts = [json.loads(line) for line in await lines_of(*command, folder=clients())]
    grown = [text for text in texts if "tok" in text]
    assert grown[-1].split()[-8:] == [f"tok{at}" for at in range(8)]
    assert len(grown) >= 4


async def test_hanging_up_on_an_agentflow_stops_the_model(gateway, model):
    question = unique("tokens=200 delay=0.05")
    async with asked(gateway.url, "agentflow", question) as answer:
        await saw(answer, b"tok2")
    line = await gateway.until("request")
    assert (line["outcome"], line["abort"]) == ("client_closed", "stopped")
    (end,) = await model.ended(question)
    assert end["reason"] == "client_gone"
    assert end["sent"] < 100


async def test_hanging_up_on_a_chain_is_logged_as_a_run_that_went_on(gateway, model):
    question = unique("tokens=20 delay=0.05")
    async with asked(gateway.url, "chain", question) as answer:
        await saw(answer, b"tok2")
    line = await gateway.until("request")
    assert (line["outcome"], line["abort"]) == ("client_closed", "ran_on")
    assert (await model.ended(question))[0]["reason"] == "complete"
    assert line["events"] > 20


async def test_two_clients_of_one_conversation_do_not_mix(gateway):
    chat = str(uuid.uuid4())
    first, second = await asyncio.gather(
        ask(gateway.url, "chain", unique("tokens=5 delay=0.1"), chatId=chat),
        ask(gateway.url, "chain", unique("tokens=9 delay=0.05"), chatId=chat),
    )
    for answer, tokens in ((first, 5), (second, 9)):
        assert events(answer[2], "token") == [f"tok{at} " for at in range(tokens)]
        assert [found["chatId"] for found in events(answer[2], "metadata")] == [chat]
        assert events(answer[2], "end") == ["[DONE]"]


async def test_an_unknown_flow_is_404_where_flowise_hangs(gateway):
    status, _, body = await ask(gateway.url, str(uuid.uuid4()), "hi")
    assert (status, json.loads(body)["code"]) == (404, "unknown_route")


async def test_a_flow_that_goes_silent_is_ended_by_a_deadline(gateway, model):
    """Flowise's heartbeats reset the deadline; this gateway's `idle` is shorter than their interval."""
    question = unique("tokens=9 cut=3")
    _, _, body = await ask(gateway.url, "agentflow", question)
    assert [token for token in events(body, "token") if token] == ["tok0 ", "tok1 ", "tok2 "]
    assert len(events(body, "error")) == 1
    assert events(body, "end") == ["[DONE]"]
    line = await gateway.until("request")
    assert (line["outcome"], line["status"]) == ("timeout", 200)
