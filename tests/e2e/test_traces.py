"""The trace of an agentflow in a real Flowise, compared with what its model was asked."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import routes
from tests.harness import bounds
from tests.harness.predictions import ask, unique
from tests.harness.processes import serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(6 * bounds.TEST)]

PROMPT_TOKENS = 7  # of each call of the fake model
USAGE = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"


def calls(model, question):
    """Each call of the model for a question: its messages, and the tokens of its answer."""
    lines = model.lines(question)
    ends = {line["n"]: line["sent"] for line in lines if line["event"] == "end"}
    return [(line["messages"], ends[line["n"]]) for line in lines if line["event"] == "begin"]


@pytest.mark.parametrize("streaming", [True, False])
async def test_the_tree_is_what_the_model_was_asked(flowise, model, collector, tmp_path, streaming):
    """Two nodes with a model, of which the second calls a tool: three calls of the model."""
    question = unique("tokens=5 delay=0.02 tool=calculator")
    traces = {"endpoint": collector.url, "content": True}
    public = routes(flowise, auth=["anonymous"])
    async with serving(tmp_path, flowise["url"], routes=public, traces=traces) as child:
        status, *_ = await ask(f"http://{child.host}:{child.port}", "tools", question, streaming=streaming)
        line = await child.until("request")
        tree = await collector.trace(line["trace_id"], 5)
    assert status == 200
    first, to_tool, last = calls(model, question)
    run = tree["invoke_workflow tools"]
    start, llm, agent = tree.below(run)
    assert [span.name.partition(" ")[0] for span in (start, llm, agent)] == ["node", "chat", "invoke_agent"]
    assert [llm.attributes[name] for name in USAGE] == [PROMPT_TOKENS, first[1]]
    assert [agent.attributes[name] for name in USAGE] == [2 * PROMPT_TOKENS, to_tool[1] + last[1]]
    assert [run.attributes[name] for name in USAGE] == [3 * PROMPT_TOKENS, first[1] + to_tool[1] + last[1]]
    assert [line["tokens_in"], line["tokens_out"]] == [run.attributes[name] for name in USAGE]
    assert {llm.attributes["gen_ai.request.model"], agent.attributes["gen_ai.response.model"]} == {
        "gpt-4o-mini"
    }
    tool = agent.event("execute_tool calculator")
    assert (tool["gen_ai.tool.call.arguments"], tool["gen_ai.tool.call.result"]) == ('{"input":"2+2"}', "4")
    asked = json.loads(agent.attributes["gen_ai.input.messages"])
    assert [one["role"] for one in asked if one["role"] != "tool"][-2:] == ["user", "assistant"]
    assert question in asked[-3]["parts"][0]["content"]
    assert run.began <= llm.began <= llm.ended <= agent.began + 0.001 <= agent.ended + 0.001
    assert agent.ended <= run.ended
    assert agent.attributes["flowise.node.times"] == ("stream" if streaming else "flowise")
    assert [span.error for span in tree.spans] == [None] * 5


async def test_a_model_that_fails_is_the_node_that_failed(flowise, collector, tmp_path):
    public = routes(flowise, auth=["anonymous"])
    traces = {"endpoint": collector.url, "ratio": 0}
    async with serving(tmp_path, flowise["url"], routes=public, traces=traces) as child:
        await ask(f"http://{child.host}:{child.port}", "tools", unique("tokens=5 fail=400"))
        line = await child.until("request")
        tree = await collector.trace(line["trace_id"], 4)
    assert line["outcome"] == "error_event"
    assert [span.error is not None for span in tree.below(tree["invoke_workflow"])] == [False, True]
