"""Traces on the wire: what a collector receives, what Flowise and the client do, and which requests are exported."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import sys
import threading
from types import SimpleNamespace

import aiohttp
import pytest
import yaml

from gateway.auth.caller import Caller
from gateway.config import LogSettings, TraceSettings
from gateway.exchange import Exchange, Timings
from gateway.flowise.error_texts import FlowiseFailure
from gateway.flowise.nodes import NodeEvidence
from gateway.flowise.outcome import Outcome
from gateway.flowise.usage import Usage
from gateway.http.trace_context import PARENT, TraceSampling, begun
from gateway.policies.traces import traces
from gateway.telemetry import trace_export
from gateway.telemetry.logs import make_logger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.trace_export import TraceExport
from tests.harness import bounds
from tests.harness.api_keys import FILE, key_of
from tests.harness.captured_streams import captured
from tests.harness.captures import load
from tests.harness.frames import ASK, END, METADATA, PATH, START, event, settled, stream, token
from tests.harness.gateway import FLOW
from tests.harness.raw_client import request
from tests.harness.raw_upstream import RawUpstream
from tests.harness.surface import PREDICT, answering, ask

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
TOOL = captured()["3.1.2/v2_agent_tool_stream"]
FEEDBACK = f"/api/v1/feedback/{FLOW}"
ANSWER_ID = "cd172396-831f-4b95-9ecc-25e800061d79"
THUMB_ID = "11111111-1111-4111-8111-111111111111"


def streaming(*pieces):
    async def script(peer, seen):
        stream(peer, *pieces)

    return RawUpstream(script)


def on(collector, **keys):
    return {"endpoint": collector.url, **keys}


def sent(seen):
    """Trace id, span id and flags of the traceparent that Flowise got."""
    version, *rest = seen.fields["traceparent"].split("-")
    assert version == "00"
    return rest


async def counted(gateway, result):
    """The number of traces with this result, once there are any."""
    name = f'flowise_gateway_traces_total{{result="{result}"}}'
    while name not in (scrape := await gateway.metrics()):
        pass
    return scrape[name]


async def predict(connect, gateway, **headers):
    return await ask(connect, gateway, body=json.dumps(ASK).encode(), **headers)


async def test_the_tree_of_an_agentflow_with_a_tool(start, connect, collector, hurried):
    async with streaming(TOOL) as upstream, start(upstream.url, traces=on(collector)) as gateway:
        reply = await predict(connect, gateway)
        trace_id = reply.fields["x-trace-id"]
        tree = await collector.trace(trace_id, 4)
        (line,) = await settled(gateway)
        assert await counted(gateway, "exported") == 1
    assert tree.names == [
        (
            "POST /api/v1/prediction/{flow}",
            [("invoke_workflow chat", ["node Start", "invoke_agent SubAgent"])],
        )
    ]
    request_span, run, agent = tree["POST"], tree["invoke_workflow"], tree["invoke_agent"]
    assert sent(upstream.seen[0]) == [trace_id, run.span_id, "01"]
    assert "tracestate" not in upstream.seen[0].fields
    assert line["trace_id"] == trace_id
    assert request_span.attributes["flowise_gateway.request_id"] == line["request_id"]
    assert request_span.seconds == pytest.approx(line["duration_s"], abs=1e-5)
    usage = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
    assert [run.attributes[name] for name in usage] == [agent.attributes[name] for name in usage] == [111, 27]
    assert [run.attributes[name] for name in usage] == [line["tokens_in"], line["tokens_out"]]
    assert agent.attributes["flowise.node.tools"] == ["calculator"]
    assert agent.event("execute_tool calculator")["gen_ai.tool.name"] == "calculator"
    assert run.began <= agent.began <= agent.ended <= run.ended
    assert request_span.began <= run.began
    policies = [name for name, *_ in request_span.events]
    assert policies == [
        f"policy {name}"
        for name in [
            "cors",
            "routing",
            "limits",
            "auth",
            "feedback",
            "body",
            "chatflow",
            "conversations",
            "limits",
        ]
    ]
    assert [span.error for span in tree.spans] == [None] * 4
    secret = ("TOOL please", "SECRET AGENT PROMPT", "Hello", "2+2", "hi")
    assert not [word for word in secret for span in tree.spans if word in str(span.attributes)]


async def test_what_is_withheld_from_clients_is_traced(start, connect, collector):
    sections = {
        "traces": on(collector),
        "route": {"events": {"withhold": ["agentFlowExecutedData", "nextAgentFlow"]}},
    }
    async with streaming(TOOL) as upstream, start(upstream.url, **sections) as gateway:
        reply = await predict(connect, gateway)
        tree = await collector.trace(reply.fields["x-trace-id"], 4)
    assert b"AgentFlow" not in reply.body.replace(b"agentFlowEvent", b"")
    assert tree["invoke_agent"].attributes["gen_ai.usage.input_tokens"] == 111


async def test_content_is_exported_where_it_is_asked_for(start, connect, collector):
    async with (
        streaming(TOOL) as upstream,
        start(upstream.url, traces=on(collector, content=True)) as gateway,
    ):
        reply = await predict(connect, gateway)
        tree = await collector.trace(reply.fields["x-trace-id"], 4)
    (asked,) = json.loads(tree["invoke_workflow"].attributes["gen_ai.input.messages"])
    assert asked["parts"] == [{"type": "text", "content": "hi"}]
    agent = tree["invoke_agent"]
    assert "SECRET AGENT PROMPT" in agent.attributes["gen_ai.input.messages"]
    assert (
        agent.attributes["gen_ai.output.messages"]
        == tree["invoke_workflow"].attributes["gen_ai.output.messages"]
    )
    tool = agent.event("execute_tool calculator")
    assert (tool["gen_ai.tool.call.arguments"], tool["gen_ai.tool.call.result"]) == ('{"input":"2+2"}', "4")


async def test_an_answer_that_is_no_stream_has_its_nodes(start, connect, collector):
    body = load("nonstream-agentflow").partition(b"\r\n\r\n")[2]
    async with answering(body) as upstream, start(upstream.url, traces=on(collector)) as gateway:
        reply = await ask(connect, gateway)
        tree = await collector.trace(reply.fields["x-trace-id"], 4)
    run = tree["invoke_workflow"]
    assert run.attributes["gen_ai.request.stream"] is False
    assert [span.name for span in tree.below(run)] == ["node Start", "chat gpt-4o-mini"]
    chat = tree["chat"]
    assert chat.attributes["flowise.node.times"] == "flowise"
    assert run.began <= chat.began <= chat.ended <= run.ended


async def test_nodes_side_by_side(start, connect, collector):
    def step(node, status):
        return event("nextAgentFlow", f'{{"nodeId":"{node}","nodeLabel":"{node}","status":"{status}"}}')

    def entry(node, tokens):
        usage = f'{{"input_tokens":{tokens},"output_tokens":{tokens}}}'
        return (
            f'{{"nodeId":"{node}","nodeLabel":"{node}","status":"FINISHED",'
            f'"data":{{"name":"llmAgentflow","output":{{"usageMetadata":{usage}}}}}}}'
        )

    async def script(peer, seen):
        a, b = entry("a", 3), entry("b", 40)
        stream(
            peer, step("a", "INPROGRESS"), step("b", "INPROGRESS"), token("a1"), token("b1"), token("a2"),
            step("b", "FINISHED"), event("agentFlowExecutedData", f"[{b}]"), token("a3"),
            step("a", "FINISHED"), event("agentFlowExecutedData", f"[{b},{a}]"), METADATA, END,
        )  # fmt: skip

    async with RawUpstream(script) as upstream, start(upstream.url, traces=on(collector)) as gateway:
        reply = await predict(connect, gateway)
        tree = await collector.trace(reply.fields["x-trace-id"], 4)
        line = await gateway.lines.request()
    assert (line["tokens_in"], line["tokens_out"]) == (43, 43)
    nodes = {span.name: span for span in tree.below(tree["invoke_workflow"])}
    assert {name: span.attributes["gen_ai.usage.input_tokens"] for name, span in nodes.items()} == {
        "chat a": 3,
        "chat b": 40,
    }


async def test_a_node_that_failed_says_why_only_with_content(start, connect, collector):
    body = captured()["stream-agentflow-llm-400"]
    for content in (False, True):
        keys = on(collector, content=content, ratio=0)
        async with streaming(body) as upstream, start(upstream.url, traces=keys) as gateway:
            reply = await predict(connect, gateway)
            tree = await collector.trace(reply.fields["x-trace-id"], 4)  # although none is sampled
        node = tree["chat"]
        assert (node.attributes["error.type"], node.attributes["flowise.node.status"]) == ("error", "ERROR")
        assert ("fake failure" in (node.error or "")) is content
        assert tree["POST"].error is not None
        assert tree["POST"].attributes["error.type"] == "error_event"
        assert sent(upstream.seen[0])[2] == "00"


# -- which traces, and whose ---------------------------------------------------------------------


async def test_a_caller_is_continued_in_the_log_the_answer_and_in_flowise(start, connect, collector):
    async with streaming(TOOL) as upstream, start(upstream.url, traces=on(collector, ratio=0)) as gateway:
        reply = await predict(connect, gateway, traceparent=SAMPLED, tracestate="a=1,b=2")
        tree = await collector.trace(TRACE, 4)
        line = await gateway.lines.request()
    assert (reply.fields["x-trace-id"], line["trace_id"]) == (TRACE, TRACE)
    assert tree["POST"].parent_id == SPAN
    assert sent(upstream.seen[0]) == [TRACE, tree["invoke_workflow"].span_id, "01"]
    assert upstream.seen[0].fields["tracestate"] == "a=1,b=2"


@pytest.mark.parametrize(
    ("keys", "headers", "is_exported"),
    [
        ({"ratio": 0}, {}, False),
        ({"ratio": 1}, {}, True),
        ({"ratio": 0}, {"traceparent": SAMPLED}, True),
        ({"ratio": 1}, {"traceparent": UNSAMPLED}, False),
        ({"ratio": 0, "parent": "link"}, {"traceparent": SAMPLED}, False),
        ({"ratio": 1, "parent": "link"}, {"traceparent": UNSAMPLED}, True),
    ],
)
async def test_the_ratio_or_the_caller_decides(keys, headers, is_exported, start, connect, collector):
    """The last request of each, which fails, is exported in any case: then nothing more can come of the first."""

    async def script(peer, seen):
        peer.answer(b"{}", "200 OK" if len(upstream.seen) == 1 else "500 Internal Server Error")

    async with RawUpstream(script) as upstream, start(upstream.url, traces=on(collector, **keys)) as gateway:
        first = await ask(connect, gateway, **headers)
        last = await ask(connect, gateway, **headers)
        await collector.first(4 if is_exported else 2)
        assert last.status == 500
    exported = {span.trace_id for span in collector.spans}
    assert (first.fields["x-trace-id"] in exported) is (
        is_exported or ("parent" not in keys and bool(headers))
    )
    assert last.fields["x-trace-id"] in exported
    if keys.get("parent") == "link":
        assert first.fields["x-trace-id"] != TRACE
        assert all(span.links == [(TRACE, SPAN)] for span in collector.spans if span.kind == "server")


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": "<script>"},
        {"traceparent": SAMPLED + "-more", "tracestate": "a=1"},
        {"traceparent": f"00-{'0' * 32}-{SPAN}-01", "tracestate": "x" * 10_000},
        {"traceparent": SAMPLED, "Traceparent": SAMPLED, "tracestate": "a=1"},
        {"tracestate": "a=1"},
    ],
)
async def test_an_invalid_caller_begins_a_trace_and_its_state_does_not_pass(
    headers, start, connect, collector
):
    async with answering() as upstream, start(upstream.url, traces=on(collector)) as gateway:
        reply = await ask(connect, gateway, **headers)
        tree = await collector.trace(reply.fields["x-trace-id"], 2)
    assert (reply.status, tree["POST"].parent_id) == (200, "")
    assert reply.fields["x-trace-id"] != TRACE
    assert sent(upstream.seen[0])[0] == reply.fields["x-trace-id"]
    assert "tracestate" not in upstream.seen[0].fields


async def test_a_long_state_is_dropped_and_its_trace_goes_on(start, connect, collector):
    async with answering() as upstream, start(upstream.url, traces=on(collector)) as gateway:
        await ask(connect, gateway, traceparent=SAMPLED, tracestate="a=" + "x" * 10_000)
        await collector.trace(TRACE, 2)
    assert sent(upstream.seen[0])[0] == TRACE
    assert "tracestate" not in upstream.seen[0].fields


async def test_flowise_gets_none_where_that_is_switched_off(start, connect, collector):
    keys = on(collector, propagate=False)
    async with answering() as upstream, start(upstream.url, traces=keys) as gateway:
        await ask(connect, gateway, traceparent=SAMPLED, tracestate="a=1")
        await collector.trace(TRACE, 2)
    assert not {"traceparent", "tracestate"} & upstream.seen[0].fields.keys()


@pytest.mark.parametrize("path", [f"/api/v1/public-chatbotConfig/{FLOW}", "/api/v1/node-icon/agentAgentflow"])
async def test_a_question_whose_answer_is_shared_names_no_span_that_is_never_exported(
    path, start, connect, collector
):
    async with answering() as upstream, start(upstream.url, traces=on(collector)) as gateway:
        await ask(connect, gateway, "GET", path, traceparent=SAMPLED)
        tree = await collector.trace(TRACE, 1)
    assert len(tree.names) == 1
    (seen,) = [one for one in upstream.seen if one.target.startswith(path)]
    assert not {"traceparent", "tracestate"} & seen.fields.keys()


async def test_without_traces_a_traceparent_passes_as_it_is(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, traceparent=SAMPLED, tracestate="a=1")
        line = await gateway.lines.request()
    assert "x-trace-id" not in reply.fields
    fields = upstream.seen[0].fields
    assert (fields["traceparent"], fields["tracestate"], line["trace_id"]) == (SAMPLED, "a=1", TRACE)


async def test_an_abort_belongs_to_the_trace_of_its_run(start, connect, collector):
    async def script(peer, seen):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        peer.chunk(START + token("a"))
        await upstream.aborted.wait()
        peer.chunk(END)
        peer.chunk(b"")

    async with RawUpstream(script) as upstream, start(upstream.url, traces=on(collector)) as gateway:
        async with connect(gateway) as wire:
            wire.send(request("POST", PATH, json.dumps(ASK).encode()))
            await wire.head()
            await wire.until(b'"a"')
        tree = await collector.first(2)
        (line,) = await settled(gateway)
    assert line["outcome"] == "client_closed"
    run = tree["invoke_workflow"]
    assert run.attributes["flowise_gateway.abort"] == "stopped"
    assert run.ended >= tree["POST"].ended
    assert sent(upstream.abort_calls[0]) == [run.trace_id, run.span_id, "01"]


# -- requests that get nowhere ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "policy", "result"),
    [
        ("GET", "/api/v1/no", {}, 404, "routing", "unknown_route"),
        ("POST", PREDICT, {}, 401, "auth", "unauthenticated"),
        ("OPTIONS", PREDICT, {"Origin": "https://a.example"}, 204, "cors", "answered"),
        ("POST", PREDICT, {"Origin": "https://b.example"}, 403, "cors", "forbidden"),
        ("GET", "/t/fgws1_zqxSECRET/api/v1/ping", {}, 401, "auth", "unauthenticated"),
        ("GET", "/api/v1/ping", {}, 200, "limits", "passed"),
    ],
)
async def test_the_policy_that_ends_a_request_says_how(
    method, path, headers, status, policy, result, start, connect, collector, tmp_path
):
    route = {"auth": ["api_key"], "cors": {"origins": ["https://a.example"]}}
    await key_of(tmp_path, "ann")
    sections = {"auth": {"keys_file": FILE}, "route": route, "traces": on(collector)}
    async with answering() as upstream, start(upstream.url, **sections) as gateway:
        reply = await ask(connect, gateway, method, path, **headers)
        tree = await collector.trace(reply.fields["x-trace-id"], 1)
    (span,) = tree.spans
    name, _, attributes = span.events[-1]
    assert reply.status == status
    assert attributes["flowise_gateway.policy.result"] == result
    assert name == f"policy {policy}"
    assert span.error is None
    assert "zqx" not in str(span)


async def test_hostile_names_are_texts(start, connect, collector):
    name = "<img src=x onerror=alert(1)>\u202e" + "\\ud83d" + "x" * 10_000
    node = f'{{"nodeId":"a","nodeLabel":"{name}","status":"FINISHED","data":{{"name":"{name}"}}}}'
    steps = [
        event("nextAgentFlow", f'{{"nodeId":"a","nodeLabel":"<b>","status":"{way}"}}')
        for way in ("INPROGRESS", "x")
    ]
    body = b"".join([*steps, event("agentFlowExecutedData", f"[{node}]"), METADATA, END])
    async with streaming(body) as upstream, start(upstream.url, traces=on(collector)) as gateway:
        reply = await predict(connect, gateway, User_Agent="<script>" + "ü" * 5000)
        tree = await collector.trace(reply.fields["x-trace-id"], 3)
    assert tree.below(tree["invoke_workflow"])[0].name == "node <b>"
    assert tree["POST"].attributes["user_agent.original"].startswith("<script>")
    assert len(tree["POST"].attributes["user_agent.original"]) == 256


# -- feedback --------------------------------------------------------------------------------------


async def test_a_thumb_and_its_comment_are_in_the_trace_of_their_answer(start, connect, collector):
    async def script(peer, seen):
        if "prediction" in seen.target:
            stream(peer, TOOL)
        else:
            peer.answer(f'{{"id":"{THUMB_ID}"}}'.encode())

    thumb = {"chatflowid": FLOW, "chatId": "chat-1", "messageId": ANSWER_ID, "rating": "THUMBS_DOWN"}
    keys = on(collector, content=True)
    async with RawUpstream(script) as upstream, start(upstream.url, traces=keys) as gateway:
        answer = await predict(connect, gateway)
        trace_id = answer.fields["x-trace-id"]
        run = (await collector.trace(trace_id, 4))["invoke_workflow"]
        given = await ask(connect, gateway, "POST", FEEDBACK, json.dumps({**thumb, "content": ""}).encode())
        changed = await ask(
            connect, gateway, "PUT", f"/api/v1/feedback/{THUMB_ID}", b'{"content":"zqx too long"}'
        )
        tree = await collector.trace(trace_id, 6)
    first, second = [span for span in tree.spans if span.name == "feedback"]
    assert (first.parent_id, second.parent_id) == (run.span_id, run.span_id)
    result = first.event("gen_ai.evaluation.result")
    assert (result["gen_ai.evaluation.score.label"], result["gen_ai.evaluation.score.value"]) == (
        "THUMBS_DOWN",
        0.0,
    )
    assert second.event("gen_ai.evaluation.result")["gen_ai.evaluation.explanation"] == "zqx too long"
    links = [span.links[0][0] for span in (first, second)]
    assert links == [given.fields["x-trace-id"], changed.fields["x-trace-id"]]


def test_an_exchange_does_not_hold_what_was_handed_over():
    """It may be in a cycle, and a trace has megabytes."""
    completed, taken = [], []
    export = SimpleNamespace(offer=taken.append, has_exemplars=False)
    traces(export, TraceSettings(), ())(SimpleNamespace(on_complete=completed.append))
    request = SimpleNamespace(headers={}, method="POST")
    exchange = Exchange(request=request, request_id="r", client="c", timings=Timings(received=1.0, ended=2.0))
    exchange.trace = begun(TraceSampling.of(1, continues=True, propagates=True), None, (), 2**255)
    exchange.nodes = nodes = NodeEvidence(size=1000)
    completed[0](exchange)
    assert exchange.nodes is None
    assert taken[0].size > 1000
    exchange.timings.upstream_written = 1.5
    assert taken[0].facts.record().call.nodes is nodes


def traced_exchange(number):
    """One with everything that is taken of it."""
    timings = Timings(1.0 + number, upstream_written=2.0 + number, ended=3.0 + number)
    request = SimpleNamespace(headers={"User-Agent": f"agent {number}"}, method="POST")
    exchange = Exchange(request=request, request_id=f"r{number}", client="c", timings=timings)
    link = TraceSampling.of(1, continues=False, propagates=True)
    exchange.trace = begun(link, PARENT.fullmatch(SAMPLED), (), 2**255 + number)
    exchange.trace.marks += [number + 0.5, number + 0.75]
    exchange.caller, exchange.chat_id = Caller(f"key:{number}", "api_key"), f"chat {number}"
    exchange.usage, exchange.outcome = Usage(number, 1000 + number, "reported"), Outcome.ERROR_EVENT
    exchange.failure = FlowiseFailure("other", f"it broke {number}")
    exchange.nodes = NodeEvidence(b"%d" % number, (b"a%d" % number,), ((b"s%d" % number, number + 0.1),))
    return exchange


def test_the_garbage_collector_sees_nothing_of_what_waits():
    """Thousands wait while the collector is away, and a collection stops the loop for as long as it passes over them."""
    count = 1000
    settings, completed = TraceSettings(), []
    log = io.StringIO()
    may_go_on = threading.Event()

    def make(_):
        may_go_on.wait(bounds.TEST)
        raise ValueError("away")

    export = TraceExport(Metrics(), make_logger(LogSettings(format="json"), log), make)
    export.use(settings)
    policy = traces(export, settings, ("auth", "body"))

    def hand_over(numbers):
        for number in numbers:
            policy(SimpleNamespace(on_complete=completed.append))
            completed.pop()(traced_exchange(number))
        gc.collect()
        gc.collect()  # a tuple of tuples is forgotten after these

    hand_over(range(1))
    before = len(gc.get_objects())
    hand_over(range(1, count))
    grown = len(gc.get_objects()) - before
    waiting = export._worker._taken - export._worker._failed
    may_go_on.set()
    export.close()
    assert waiting == count
    assert grown < 20


# -- exemplars -------------------------------------------------------------------------------------


async def exemplars(gateway):
    """The trace ids behind the samples of histograms, by the names of these."""
    headers = {"Accept": "application/openmetrics-text"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{gateway.admin}/metrics") as answer,
    ):
        text = await answer.text()
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    found = {}
    for line in text.splitlines():
        sample, _, exemplar = line.partition(" # ")
        if exemplar:
            found.setdefault(sample.partition("{")[0].removeprefix("flowise_gateway_"), set()).add(exemplar)
    return found


async def test_measurements_name_the_trace_that_they_are_from(start, connect, collector):
    async with streaming(TOOL) as upstream, start(upstream.url, traces=on(collector)) as gateway:
        reply = await predict(connect, gateway)
        await settled(gateway)
        found = await exemplars(gateway)
    named = f'{{trace_id="{reply.fields["x-trace-id"]}"}}'
    assert found.keys() == {"request_duration_seconds_bucket", "time_to_first_token_seconds_bucket"}
    assert all(exemplar.startswith(named) for of_one in found.values() for exemplar in of_one)


async def test_what_is_not_exported_is_not_named(start, connect, collector, monkeypatch):
    async with streaming(TOOL) as upstream, start(upstream.url, traces=on(collector, ratio=0)) as gateway:
        await predict(connect, gateway)
        await settled(gateway)
        assert await exemplars(gateway) == {}
    monkeypatch.setattr(trace_export, "MOST_WAITING", 0)
    async with streaming(TOOL) as upstream, start(upstream.url, traces=on(collector)) as gateway:
        await predict(connect, gateway)
        await settled(gateway)
        assert await exemplars(gateway) == {}


# -- a collector that fails ------------------------------------------------------------------------


async def test_a_collector_that_fails_costs_no_request_and_is_logged(start, connect, collector, hurried):
    collector.status = 400
    async with streaming(TOOL) as upstream, start(upstream.url, traces=on(collector)) as gateway:
        assert (await predict(connect, gateway)).status == 200
        (line,) = await gateway.lines.until("traces_lost")
        assert await counted(gateway, "failed") == 1
    assert (line["count"], line["level"]) == (1, "warning")
    assert "400" in line["reason"]


async def test_a_collector_that_does_not_answer_delays_neither_requests_nor_the_end(
    start, connect, collector, monkeypatch
):
    monkeypatch.setattr(trace_export, "FLUSH_WITHIN", 0.05)
    collector.may_answer.clear()
    async with streaming(TOOL) as upstream, start(upstream.url, traces=on(collector)) as gateway:
        for _ in range(3):
            assert (await predict(connect, gateway)).status == 200
        await collector.asked()
        await settled(gateway, 3)
    collector.may_answer.set()
    assert collector.spans == []


# -- reload ----------------------------------------------------------------------------------------


async def test_a_reload_switches_traces_on_and_off(start, connect, collector, hurried):
    async with answering() as upstream, start(upstream.url) as gateway:
        text = await asyncio.to_thread(gateway.path.read_text)
        off = yaml.safe_load(text)
        assert "x-trace-id" not in (await ask(connect, gateway)).fields
        await gateway.reload(off | {"traces": on(collector)})
        reply = await ask(connect, gateway)
        await collector.trace(reply.fields["x-trace-id"], 2)
        await gateway.reload(off)
        assert "x-trace-id" not in (await ask(connect, gateway)).fields
        changed = [line["changed"] for line in gateway.lines.of("config_reloaded")]
        assert len(changed) == 2
        assert all(key.startswith("traces.") for keys in changed for key in keys)
    assert len(collector.spans) == 2


async def test_a_reload_that_needs_a_missing_package_is_refused(
    start, connect, collector, hurried, monkeypatch
):
    async with answering() as upstream, start(upstream.url) as gateway:
        off = yaml.safe_load(await asyncio.to_thread(gateway.path.read_text))
        monkeypatch.setitem(sys.modules, "gateway.telemetry.otlp", None)
        await gateway.reload(off | {"traces": on(collector)})
        (mistake,) = gateway.lines.of("config_mistake")
        assert "x-trace-id" not in (await ask(connect, gateway)).fields
    assert "pip install flowise-gateway[otel]" in mistake["message"]
    assert mistake["line"] > 0
