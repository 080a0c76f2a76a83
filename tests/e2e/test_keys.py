"""The official SDKs with an API key of the gateway, on a route that requires one."""

from __future__ import annotations

import json
import os
import sys

import pytest

from tests.harness import bounds
from tests.harness.api_keys import mistyped
from tests.harness.predictions import run, unique
from tests.harness.widget import CLIENTS, clients

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(6 * bounds.TEST)]


@pytest.fixture(params=["python", "typescript"])
def sdk(request):
    """`await sdk(*arguments)`: the output of clients/keyed."""

    async def call(*arguments):
        if request.param == "python":
            python = os.environ.get("FLOWISE_PYTHON", sys.executable)
            return (await run(python, str(CLIENTS / "keyed.py"), *arguments))[1]
        return (await run("node", str(CLIENTS / "keyed.mjs"), *arguments, folder=clients()))[1]

    return call


@pytest.mark.parametrize("flow", ["chain", "agentflow"])
async def test_an_sdk_with_a_key_streams_and_resumes_its_conversation(guard, sdk, flow):
    async with guard() as gateway:
        questions = unique("tokens=4 delay=0.1", "my cat is Minka"), unique("recall=1", "who is my cat?")
        written = await sdk(gateway.url, gateway.key, flow, *questions)
        *stream, answer = map(json.loads, written.splitlines())
        tokens = [event["data"] for event in stream if event["event"] == "token" and event["data"]]
        assert tokens == [f"tok{at} " for at in range(4)]
        assert stream[-1] == {"event": "end", "data": "[DONE]"}
        assert "my cat is Minka" in answer["text"]
        for number in (1, 2):
            line = await gateway.until("request", number * 2)
            assert (line["auth"], line["caller"], line["status"]) == ("api_key", "key:backend", 200)


async def test_an_sdk_with_a_wrong_key_gets_no_answer(guard, sdk, model):
    async with guard() as gateway:
        question = unique("tokens=4")
        written = await sdk(gateway.url, mistyped(gateway.key), "chain", question, question)
        assert "401" in written  # the Python SDK raises it, the TypeScript SDK returns it as the answer
        assert "tok" not in written
        assert model.lines(question) == []
