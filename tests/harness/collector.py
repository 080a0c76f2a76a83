"""A collector: takes traces by OTLP over HTTP, and decodes them with OpenTelemetry's own protobuf."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

_KINDS = {
    Span.SPAN_KIND_SERVER: "server",
    Span.SPAN_KIND_CLIENT: "client",
    Span.SPAN_KIND_INTERNAL: "internal",
}


@dataclass
class Received:
    """One span; ids in hexadecimal digits, times in seconds since 1970."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    began: float
    ended: float
    attributes: dict[str, Any]
    events: list[tuple[str, float, dict[str, Any]]]
    links: list[tuple[str, str]]
    error: str | None
    resource: dict[str, Any]

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def event(self, name: str) -> dict[str, Any]:
        """The attributes of the only event of this name."""
        (attributes,) = (found for given, _, found in self.events if given == name)
        return attributes


@dataclass
class Tree:
    """The spans of one trace."""

    spans: list[Received] = field(default_factory=list)

    def __getitem__(self, name: str) -> Received:
        """The only span whose name begins with this."""
        (span,) = (one for one in self.spans if one.name.startswith(name))
        return span

    def below(self, span: Received) -> list[Received]:
        return [one for one in self.spans if one.parent_id == span.span_id]

    @property
    def names(self) -> list[Any]:
        """Each span's name with the names below it, from the top."""
        ids = {span.span_id for span in self.spans}
        return [self._names(span) for span in self.spans if span.parent_id not in ids]

    def _names(self, span: Received) -> Any:
        below = [self._names(one) for one in self.below(span)]
        return (span.name, below) if below else span.name


class Collector:
    """Answers with `status`; while `may_answer` is not set it does not."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.requests: list[web.Request] = []
        self.status = 200
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.url = ""
        self._more = asyncio.Event()

    async def __aenter__(self) -> Collector:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = "http://127.0.0.1:{}".format(self._runner.addresses[0][1])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append(request)
        self._more.set()
        await self.may_answer.wait()
        if self.status == 200:
            self.spans.extend(decoded(body))
        self._more.set()
        return web.Response(status=self.status)

    async def asked(self, count: int = 1) -> None:
        """Wait until there were this many requests."""
        while len(self.requests) < count:
            await self.more()

    async def more(self) -> None:
        self._more.clear()
        await self._more.wait()

    async def trace(self, trace_id: str, count: int) -> Tree:
        """The spans of this trace, once there are `count` of them."""
        while len(found := [span for span in self.spans if span.trace_id == trace_id]) < count:
            await self.more()
        assert len(found) == count, [span.name for span in found]
        return Tree(found)

    async def first(self, count: int) -> Tree:
        """The spans of all traces, once there are `count` of them."""
        while len(self.spans) < count:
            await self.more()
        assert len(self.spans) == count, [span.name for span in self.spans]
        return Tree(self.spans)


def decoded(body: bytes) -> list[Received]:
    content = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    found = []
    for of_resource in ExportTraceServiceRequest.FromString(content).resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for scope in of_resource.scope_spans:
            assert scope.scope.name == "flowise-gateway"
            found += [_span(span, resource) for span in scope.spans]
    return found


def _span(span: Span, resource: dict[str, Any]) -> Received:
    return Received(
        name=span.name,
        kind=_KINDS[span.kind],
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        began=span.start_time_unix_nano // 1000 / 1e6,
        ended=span.end_time_unix_nano // 1000 / 1e6,
        attributes=_attributes(span.attributes),
        events=[
            (one.name, one.time_unix_nano // 1000 / 1e6, _attributes(one.attributes)) for one in span.events
        ],
        links=[(one.trace_id.hex(), one.span_id.hex()) for one in span.links],
        error=span.status.message if span.status.code == Status.STATUS_CODE_ERROR else None,
        resource=resource,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)
