"""Makes spans and exports them in a thread: the loop hands over what it knows of a request, and never waits.

What a collector that is slow or away does not take waits, up to a bound; beyond it traces are lost and counted. The SDK
tries each batch for as long as its own timeout, and then it is lost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import Empty, SimpleQueue
from random import getrandbits
from threading import Lock, Thread
from time import monotonic, time
from typing import NamedTuple, Protocol

import msgspec

from gateway.config import TraceSettings
from gateway.flowise.nodes import NodeEvidence, ReadRun, read_run
from gateway.telemetry.logs import Logger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.span import Span
from gateway.telemetry.spans import SpanMaker
from gateway.telemetry.trace_records import GivenFeedback, RequestRecord

MOST_WAITING = (
    16 * 1024 * 1024
)  # bytes of records, those that are being sent included: 4,000 requests without a trace
AT_ONCE = 64  # requests of one batch
EXPORT_EVERY = 1.0  # seconds for which a batch is collected
FLUSH_WITHIN = 2.0  # seconds at the end, for what waits
MOST_ANSWERS = 20_000  # whose trace is remembered for their feedback; about 6 MB
LOG_AGAIN = 60.0  # seconds between two lines on lost traces
NO_PACKAGE = (
    "traces needs the packages of the extra otel, which are not installed: pip install flowise-gateway[otel],"
    " or leave traces out."
)


class SpanSender(Protocol):
    """Sends the spans of one process, as `OtlpSender` does."""

    def send(self, spans: Iterable[Span]) -> str:
        """Send them; may block. Returns why it failed, or nothing. Of none nothing is sent."""

    def close(self) -> None:
        """End it, and what `send` waits for."""


class RequestFacts(Protocol):
    """What the loop has taken of a request; nothing that the garbage collector tracks, as thousands may wait."""

    def record(self) -> RequestRecord:
        """Make its record, in the thread."""


class Handed(msgspec.Struct, frozen=True, gc=False):
    """One request, from the loop.

    Attributes:
        facts: what its record is made from.
        size: about the bytes that it holds.
        is_exported: otherwise it is here for its feedback alone.
    """

    facts: RequestFacts
    size: int
    is_exported: bool


class _Use(NamedTuple):
    """An order between records: these settings from now on."""

    settings: TraceSettings | None


class _Stop(NamedTuple):
    """The last order between records."""


_Item = Handed | _Use | _Stop


def make_sender(settings: TraceSettings) -> SpanSender:
    """A sender, which is not connected yet; the first one takes 0.2 s of loading.

    Raises:
        ValueError: the packages are missing, or a variable cannot be read; the message says what to do.
    """
    try:
        from gateway.telemetry.otlp import OtlpSender  # noqa: PLC0415 - large, and of an extra
    except ModuleNotFoundError:
        raise ValueError(NO_PACKAGE) from None
    return OtlpSender(settings)


def check_traces(settings: TraceSettings | None) -> None:
    """Find out, without connecting, whether this process could export traces.

    Raises:
        ValueError: as for `make_sender`.
    """
    if settings is not None:
        make_sender(settings).close()


class TraceExport:
    """The traces of one process. The thread is there from the first `use` with settings; `tick` is for the timer."""

    def __init__(
        self,
        metrics: Metrics,
        logger: Logger,
        make: Callable[[TraceSettings], SpanSender] = make_sender,
    ) -> None:
        """`make`: returns a sender, or raises ValueError."""
        self._metrics = metrics
        self._logger = logger
        self._worker = _Worker(make)
        self._settings: TraceSettings | None = None
        self._counted = {"exported": 0, "queue_full": 0, "failed": 0}
        self._unlogged = 0
        self._log_at = 0.0

    @property
    def has_exemplars(self) -> bool:
        """Whether measurements can name their trace: prometheus_client keeps that in one process only."""
        return not self._metrics.worker

    def use(self, settings: TraceSettings | None) -> None:
        """Export as these say, after what waits; None: nothing more comes."""
        if settings != self._settings:
            self._settings = settings
            self._worker.order(_Use(settings))

    def offer(self, handed: Handed) -> bool:
        """Let the thread export it; returns whether there was memory for it. Never blocks."""
        return self._worker.take(handed)

    def tick(self, now: float) -> None:
        """Count what has become of traces, and log what was lost; `now` in monotonic seconds."""
        for result, number in self._worker.counts().items():
            if more := number - self._counted[result]:
                self._counted[result] = number
                self._metrics.child(self._metrics.traces, result).inc(more)
                self._unlogged += more if result != "exported" else 0
        if self._worker.revive():
            self._logger.error("bug", error="the thread that exports traces has ended; another one goes on")
        if self._unlogged and now >= self._log_at:
            self._log_at = now + LOG_AGAIN
            reason = self._worker.reason or "more than the exporter takes"
            self._logger.warning("traces_lost", count=self._unlogged, reason=reason)
            self._unlogged = 0

    def close(self) -> None:
        """Export what waits, for `FLUSH_WITHIN` seconds at most; blocks. What is left is lost."""
        self._worker.close()
        self._log_at = 0.0
        self.tick(monotonic())


class _Worker:
    """The queue and its thread."""

    def __init__(self, make: Callable[[TraceSettings], SpanSender]) -> None:
        self._make = make
        self._items: SimpleQueue[_Item] = SimpleQueue()
        self._lock = Lock()  # of the number of bytes that wait
        self._waiting = 0
        self._taken = 0  # requests whose spans were to be exported
        self._queue_full = self._exported = self._failed = 0
        self._thread: Thread | None = None
        self._sender: SpanSender | None = None
        self._answers = _Answers()
        self._is_closed = False
        self.reason = ""  # of the last failure

    # -- in the thread of the loop -----------------------------------------------------------------

    def order(self, item: _Use | _Stop) -> None:
        self._items.put(item)
        if self._thread is None:
            self._start()

    def take(self, handed: Handed) -> bool:
        with self._lock:
            if self._waiting + handed.size > MOST_WAITING:
                self._queue_full += handed.is_exported
                return False
            self._waiting += handed.size
            self._taken += handed.is_exported
        self._items.put(handed)
        return True

    def counts(self) -> dict[str, int]:
        return {"exported": self._exported, "queue_full": self._queue_full, "failed": self._failed}

    def revive(self) -> bool:
        """Start another thread if a bug has ended the last one; returns whether it has."""
        if self._thread is None or self._thread.is_alive() or self._is_closed:
            return False
        self._start()
        return True

    def close(self) -> None:
        self._is_closed = True
        if self._thread is None:
            return
        self._items.put(_Stop())
        self._thread.join(FLUSH_WITHIN)
        if self._thread.is_alive() and self._sender is not None:
            self._sender.close()
        if left := self._taken - self._exported - self._failed:
            self._failed += left
            self.reason = self.reason or "the process has ended"

    def _start(self) -> None:
        self._thread = Thread(target=self._run, name="traces", daemon=True)  # may be blocked for long
        self._thread.start()

    # -- in its own thread -------------------------------------------------------------------------

    def _run(self) -> None:
        order: _Item | None = None
        while not isinstance(order, _Stop):
            batch, order = self._next()
            size = sum(handed.size for handed in batch)
            try:
                self._export(batch)
            finally:
                batch.clear()  # before its memory is given to others
                with self._lock:
                    self._waiting -= size
            if isinstance(order, _Use):
                self._use(order.settings)
        self._use(None)

    def _next(self) -> tuple[list[Handed], _Item | None]:
        """Wait for a batch; returns it, and the order that came behind it."""
        batch: list[Handed] = []
        item = self._items.get()
        until = monotonic() + EXPORT_EVERY
        while isinstance(item, Handed):
            batch.append(item)
            if len(batch) == AT_ONCE:
                return batch, None
            try:
                item = self._items.get(timeout=max(0.0, until - monotonic()))
            except Empty:
                return batch, None
        return batch, item

    def _use(self, settings: TraceSettings | None) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()
        if settings is not None:
            try:
                self._sender = self._make(settings)
            except ValueError as error:
                self.reason = str(error)

    def _export(self, batch: Sequence[Handed]) -> None:
        spans = self._spans_of(batch)
        if self._sender is None:
            for _ in spans:  # what they say of answers is remembered
                pass
            reason = self.reason
        else:
            reason = self._sender.send(spans)
        traces = sum(handed.is_exported for handed in batch)
        if self._sender is None or reason:
            self.reason = reason
            self._failed += traces
        else:
            self._exported += traces

    def _spans_of(self, batch: Iterable[Handed]) -> Iterator[Span]:
        """One after the other: thousands at once would be a burden to the garbage collector."""
        maker = SpanMaker(time() - monotonic(), _new_id)
        for handed in batch:
            yield from self._spans(maker, handed.facts.record())

    def _spans(self, maker: SpanMaker, record: RequestRecord) -> Iterator[Span]:
        if record.is_exported:
            evidence = record.call.nodes if record.call is not None else None
            run = read_run(evidence or NodeEvidence(), with_content=record.has_content)
            yield from maker.of_request(record, run)
            self._remember(record, run)
        if record.feedback is not None and (answer := self._answers.of(record.feedback)) is not None:
            yield maker.of_feedback(record, record.feedback, answer)

    def _remember(self, record: RequestRecord, run: ReadRun) -> None:
        if run.message_id:
            self._answers.add(run.message_id, (record.context.trace_id, record.context.child_id))


class _Answers:
    """The traces of the last answers, by what a feedback names."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def add(self, name: str, answer: tuple[str, str]) -> None:
        self._known[name] = answer
        if len(self._known) > MOST_ANSWERS:
            self._known.popitem(last=False)

    def of(self, feedback: GivenFeedback) -> tuple[str, str] | None:
        """The trace and the span of the run; None: it is not known, or was not exported."""
        answer = self._known.get(feedback.message or feedback.stored)
        if answer is not None and feedback.stored:
            self.add(feedback.stored, answer)
        return answer


def _new_id() -> str:
    return f"{getrandbits(64) or 1:016x}"
