"""Sends spans by OTLP over HTTP: the one file that knows OpenTelemetry's SDK, and is loaded only where traces are on.

The SDK reads its own variables: OTEL_EXPORTER_OTLP_* (endpoint, headers, timeout, compression, certificates),
OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, the limits of spans, OTEL_SDK_DISABLED.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from gateway import __version__
from gateway.config import TraceSettings
from gateway.flowise.node_content import cut
from gateway.telemetry.span import LONGEST_TEXT, Attributes, Span, Value

SERVICE = "flowise-gateway"
PATH = "/v1/traces"  # of an endpoint that has none
MOST_SPANS = 256  # at once; until one is encoded it is 20 to 60 objects that the garbage collector looks at
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_LIBRARY = "opentelemetry"
# what the SDK says last of a batch that it has tried several times, and behind each cause
_GAVE_UP, _RETRYING = "Failed to export spans batch due to", ", retrying in"
_CONTENT = (
    "gen_ai.input.",
    "gen_ai.output.",
    "gen_ai.tool.call.",
    "gen_ai.evaluation.",
)  # cut where they are read
_CANNOT = "Traces cannot be exported: {}. Look at traces.endpoint and at the variables OTEL_*."


class OtlpSender:
    """Used in one thread; `close` may be called in another, and ends what `send` waits for."""

    def __init__(self, settings: TraceSettings) -> None:
        """Nothing is connected yet; blocks for some milliseconds.

        Raises:
            ValueError: an OTEL_* variable cannot be read; the message says what to do.
        """
        self._said = _Said()
        self._ids = _GivenIds()
        self._ended = _Ended()
        try:
            with self._said:
                self._exporter = OTLPSpanExporter(endpoint=_with_path(settings.endpoint) or None)
                resource = _resource(settings)
                provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._ids)
        except (ValueError, RuntimeError, ImportError, OSError, StopIteration) as error:
            raise ValueError(_CANNOT.format(error)) from error
        if self._said.last:  # it would go on with a default
            raise ValueError(_CANNOT.format(self._said.last))
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer(SERVICE, __version__)

    def send(self, spans: Iterable[Span]) -> str:
        """Send them; may block for OTEL_EXPORTER_OTLP_TIMEOUT, 10 s by default. Returns why it failed, or nothing.

        After a failure the rest is not sent.
        """
        rest = iter(spans)
        reason = ""
        while some := list(islice(rest, MOST_SPANS)):
            reason = reason or self._send(some)
        return reason

    def _send(self, spans: Iterable[Span]) -> str:
        for span in spans:
            self._make(span)
        made = self._ended.take()
        if not made:  # there are none, or OTEL_SDK_DISABLED
            return ""
        with self._said:
            is_taken = self._exporter.export(_Spent(made)) is SpanExportResult.SUCCESS
        return "" if is_taken else self._said.last or "the collector does not take them"

    def close(self) -> None:
        """End it, and what `send` waits for."""
        with self._said:
            self._exporter.shutdown()  # type: ignore[no-untyped-call] # has no types

    def _make(self, span: Span) -> None:
        self._ids.next = int(span.trace_id, 16), int(span.span_id, 16)
        parent = _context(span.trace_id, span.parent_id) if span.parent_id else None
        made = self._tracer.start_span(
            _clean(span.name),
            None if parent is None else set_span_in_context(NonRecordingSpan(parent)),
            SpanKind[span.kind],
            _cleaned(span.attributes),
            [Link(_context(*link)) for link in span.links],
            _nanoseconds(span.began),
        )
        for event in span.events:
            made.add_event(_clean(event.name), _cleaned(event.attributes), _nanoseconds(event.at))
        if span.error is not None:
            made.set_status(Status(StatusCode.ERROR, _clean(span.error)))
        made.end(_nanoseconds(span.ended))


class _GivenIds(IdGenerator):
    """The ids of the next span: Flowise and the client have had them before it was made."""

    def __init__(self) -> None:
        self.next = 0, 0

    def generate_trace_id(self) -> int:
        return self.next[0]

    def generate_span_id(self) -> int:
        return self.next[1]


class _Ended(SpanProcessor):
    """Keeps the spans that have ended until they are taken."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self._spans.append(span)

    def take(self) -> list[ReadableSpan]:
        taken, self._spans = self._spans, []
        return taken


class _Spent(Sequence[ReadableSpan]):
    """Spans that are gone once they are encoded, in their order.

    The SDK holds what it is given while it tries to send it, for seconds, and then an error holds that in a cycle until
    a full collection, which took 170 ms of CPU with a dead collector.
    """

    def __init__(self, spans: list[ReadableSpan]) -> None:
        """`spans`: emptied by an iteration."""
        self._spans = spans
        self._spans.reverse()

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: Any) -> Any:
        return self._spans[::-1][index]

    def __iter__(self) -> Iterator[ReadableSpan]:
        while self._spans:
            yield self._spans.pop()


class _Said(logging.Handler):
    """Keeps what the SDK logs while it is entered, in any thread of its own, and keeps it from standard error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def __enter__(self) -> None:
        self.last = ""
        library = logging.getLogger(_LIBRARY)
        library.propagate = False
        library.addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger(_LIBRARY).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        # a header is a credential
        said = str(record.msg).partition(":")[0] if "eader" in str(record.msg) else record.getMessage()
        said = " ".join(said.split())
        if said.startswith(_GAVE_UP):  # the message before has the cause
            return
        self.last = cut(said.partition(_RETRYING)[0], LONGEST_TEXT)


def _resource(settings: TraceSettings) -> Resource:
    resource = Resource.create({SERVICE_VERSION: __version__})
    if settings.service or str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: settings.service or SERVICE}))
    return resource


def _with_path(endpoint: str) -> str:
    """As the SDK completes a URL of its variable."""
    if not endpoint:
        return ""
    parts = urlsplit(endpoint)
    return endpoint if parts.path.strip("/") else parts._replace(path=PATH).geturl()


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=_SAMPLED)


def _nanoseconds(seconds: float) -> int:
    """A float has microseconds of what is since 1970."""
    return round(seconds * 1e6) * 1000


def _cleaned(attributes: Attributes) -> Attributes:
    return {
        name: value
        if name.startswith(_CONTENT) and isinstance(value, str) and value.isascii()
        else _value(name, value)
        for name, value in attributes.items()
    }


def _value(name: str, value: Value) -> Value:
    if isinstance(value, str):
        return _valid(value) if name.startswith(_CONTENT) else _clean(value)
    if isinstance(value, bool | int | float):
        return value
    return tuple(_clean(one) for one in value)


def _clean(text: str) -> str:
    """A text that is no content, cut."""
    return _valid(cut(text, LONGEST_TEXT))


def _valid(text: str) -> str:
    """UTF-8 has no half of a surrogate pair, and with one the whole batch would be lost."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
