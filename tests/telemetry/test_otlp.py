"""What goes over the wire: OTEL_* variables, texts that protobuf refuses, and what is said of a collector that fails."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from gateway import __version__
from gateway.config import TraceSettings
from gateway.telemetry.otlp import MOST_SPANS, OtlpSender
from gateway.telemetry.span import LONGEST_TEXT, Span, SpanEvent, SpanKindName
from tests.harness.ports import closed_port

TRACE, SPAN, PARENT = "a" * 32, "b" * 16, "c" * 16


def span(**changes):
    given = {
        "name": "POST",
        "kind": SpanKindName.SERVER,
        "began": 1_700_000_000.25,
        "ended": 1_700_000_001.5,
        **changes,
    }
    return Span(trace_id=TRACE, span_id=SPAN, parent_id=PARENT, **given)


async def send(settings, *spans):
    def in_its_thread():
        sender = OtlpSender(settings)
        try:
            return sender.send(spans)
        finally:
            sender.close()

    return await asyncio.to_thread(in_its_thread)


async def test_a_span_arrives_as_it_was_made(collector):
    made = span(
        attributes={"a": "text", "b": 7, "c": 0.5, "d": True, "e": ("x", "y")},
        events=[SpanEvent("policy auth", 1_700_000_000.5, {"result": "passed"})],
        links=[("d" * 32, "e" * 16)],
        error="it broke",
    )
    assert await send(TraceSettings(endpoint=f"{collector.url}/v1/traces", service="gate"), made) == ""
    (got,) = collector.spans
    assert (got.trace_id, got.span_id, got.parent_id, got.kind) == (TRACE, SPAN, PARENT, "server")
    assert (got.began, got.ended) == (1_700_000_000.25, 1_700_000_001.5)
    assert got.attributes == {"a": "text", "b": 7, "c": 0.5, "d": True, "e": ["x", "y"]}
    assert got.events == [("policy auth", 1_700_000_000.5, {"result": "passed"})]
    assert (got.links, got.error) == ([("d" * 32, "e" * 16)], "it broke")
    assert (got.resource["service.name"], got.resource["service.version"]) == ("gate", __version__)


async def test_the_standard_variables_are_read(collector, monkeypatch):
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20secret",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_SERVICE_NAME": "by-variable",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=staging",
        "OTEL_TRACES_SAMPLER": "always_off",  # `ratio` decides
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert await send(TraceSettings(), span()) == ""
    (got,) = collector.spans
    assert got.resource["service.name"] == "by-variable"
    assert got.resource["deployment.environment.name"] == "staging"
    headers = collector.requests[0].headers
    assert (headers["Authorization"], headers["Content-Encoding"]) == ("Bearer secret", "gzip")
    assert await send(TraceSettings(service="by-file"), span()) == ""
    assert collector.spans[1].resource["service.name"] == "by-file"


async def test_without_a_name_it_is_the_gateway(collector):
    assert await send(TraceSettings(endpoint=collector.url), span()) == ""
    assert collector.spans[0].resource["service.name"] == "flowise-gateway"


async def test_the_sdk_can_be_switched_off_by_its_variable(collector, monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert await send(TraceSettings(endpoint=collector.url), span()) == ""
    assert collector.requests == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "Invalid timeout value 'soon'"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip", "Unsupported compression type: zip"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "zqxSECRET", "Header format invalid"),
        ("OTEL_RESOURCE_ATTRIBUTES", "staging", "Invalid key value resource attribute pair staging"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "few", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be"),
        ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "nope", "Traces cannot be exported"),
    ],
)
def test_a_variable_that_cannot_be_read_is_a_mistake_at_the_start(name, value, said, monkeypatch, capfd):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"^Traces cannot be exported: .*OTEL_\*\.$") as refused:
        OtlpSender(TraceSettings())
    assert said in str(refused.value)
    assert "zqx" not in str(refused.value)
    assert capfd.readouterr().err == ""


async def test_hostile_texts_spoil_no_batch(collector):
    hostile = "<script>alert(1)</script>\u202e\x00\ud800" + "x" * 20_000
    made = span(
        name=hostile,
        attributes={"a": hostile, "b": (hostile,), "gen_ai.input.messages": hostile},
        events=[SpanEvent(hostile, 1_700_000_000.5, {"a": hostile})],
        error=hostile,
    )
    assert await send(TraceSettings(endpoint=collector.url), made) == ""
    (got,) = collector.spans
    for text in (got.name, got.attributes["a"], got.attributes["b"][0], got.events[0][0], got.error):
        assert text.startswith("<script>alert(1)</script>\u202e\x00?")
        assert len(text) == LONGEST_TEXT
    assert len(got.attributes["gen_ai.input.messages"]) == len(hostile)  # cut where it was read


async def test_a_collector_that_refuses_is_named_and_the_sdk_says_nothing_itself(collector, monkeypatch):
    said = logging.Handler()
    said.emit = lambda record: pytest.fail(record.getMessage())
    monkeypatch.setattr(logging.getLogger(), "handlers", [said])
    collector.status = 400
    reason = await send(TraceSettings(endpoint=collector.url), span())
    assert reason == "Failed to export spans batch code: 400, reason: Bad Request"
    assert len(collector.requests) == 1


async def test_a_collector_that_is_away_is_tried_until_the_timeout(monkeypatch, capfd):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    with closed_port() as port:
        reason = await send(TraceSettings(endpoint=f"http://127.0.0.1:{port}"), span())
    assert reason
    assert capfd.readouterr().err == ""


async def test_the_end_interrupts_a_repetition(collector):
    collector.status = 503
    sender = await asyncio.to_thread(OtlpSender, TraceSettings(endpoint=collector.url))
    sending = asyncio.create_task(asyncio.to_thread(sender.send, [span()]))
    await collector.asked()
    sender.close()
    assert await sending


# -- the garbage collector -------------------------------------------------------------------------


def alive():
    """Spans of the SDK that nothing has freed yet."""
    return sum(isinstance(one, ReadableSpan) for one in gc.get_objects())


@pytest.fixture
def no_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
async def test_spans_are_gone_while_the_collector_does_not_answer(collector):
    collector.may_answer.clear()
    sending = asyncio.ensure_future(send(TraceSettings(endpoint=collector.url), *[span()] * 100))
    await collector.asked()
    held = alive()
    collector.may_answer.set()
    assert await sending == ""
    assert held == 0
    assert len(collector.spans) == 100


@pytest.mark.usefixtures("no_collection")
async def test_no_error_holds_the_spans_of_a_batch_that_is_lost(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    with closed_port() as port:
        assert await send(TraceSettings(endpoint=f"http://127.0.0.1:{port}"), *[span()] * 100)
    assert alive() == 0


async def test_many_spans_are_sent_a_part_at_a_time_until_one_fails(collector):
    many = [span()] * (2 * MOST_SPANS + 1)
    assert await send(TraceSettings(endpoint=collector.url), *many) == ""
    assert (len(collector.spans), len(collector.requests)) == (len(many), 3)
    collector.status = 400  # which is not tried again
    assert await send(TraceSettings(endpoint=collector.url), *many)
    assert len(collector.requests) == 4
