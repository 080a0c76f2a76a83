"""The thread that exports traces: what it may hold, what is lost and said, and that nothing waits for it."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import weakref
from queue import SimpleQueue
from time import monotonic

import pytest
from msgspec.structs import replace

from gateway.cli import main
from gateway.config import LogSettings, TraceSettings
from gateway.flowise.nodes import NodeEvidence
from gateway.telemetry import trace_export
from gateway.telemetry.logs import make_logger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.trace_export import LOG_AGAIN, NO_PACKAGE, Handed, TraceExport, check_traces
from gateway.telemetry.trace_records import GivenFeedback
from tests.harness import bounds
from tests.harness.frames import event
from tests.harness.gateway import configuration
from tests.telemetry.test_spans import CALL, CHILD, TRACE, record

ON = TraceSettings()


SIZE = 4096  # of each request


class Made:
    """Facts of a request whose record is made already."""

    def __init__(self, made):
        self._made = made

    def record(self):
        return self._made


def offer(it, made):
    """Hand a request over; returns whether it was taken."""
    nodes = 0 if made.call is None or made.call.nodes is None else made.call.nodes.size
    return it.export.offer(Handed(Made(made), SIZE + nodes, made.is_exported))


def with_nodes(evidence):
    return record(call=replace(CALL, nodes=evidence))


class Sender:
    """Takes spans, and answers when it may."""

    def __init__(self, settings=ON):
        self.settings = settings
        self.sent = SimpleQueue()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.reason = ""
        self.is_closed = False

    def send(self, spans):
        if not (names := [span.name for span in spans]):
            return ""
        self.sent.put(names)
        self.may_answer.wait(bounds.TEST)
        return self.reason

    def close(self):
        self.is_closed = True
        self.may_answer.set()

    def next(self):
        return self.sent.get(timeout=bounds.STEP)


class Exporting:
    """An export with its log and its metrics. `next_sender`: the sender that was made last."""

    def __init__(self, make=None):
        self.metrics, self.log = Metrics(), io.StringIO()
        self.senders = SimpleQueue()
        self.sender = None
        logger = make_logger(LogSettings(format="json"), self.log)
        self.export = TraceExport(self.metrics, logger, make or self._make)

    def _make(self, settings):
        made = Sender(settings)
        self.senders.put(made)
        return made

    def next_sender(self):
        self.sender = self.senders.get(timeout=bounds.STEP)
        return self.sender

    def __enter__(self):
        self.export.use(ON)
        return self

    def __exit__(self, *_):
        self.export.close()

    def lines(self):
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def counted(self):
        self.export.tick(0.0)
        children = self.metrics.traces._metrics
        return {labels[0]: child._value.get() for labels, child in children.items()}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(trace_export, "EXPORT_EVERY", 0.0)


def test_a_request_is_exported():
    with Exporting() as it:
        assert offer(it, record())
        assert it.next_sender().next() == ["POST /api/v1/prediction/{flow}", "invoke_workflow support"]
    assert it.sender.is_closed
    assert it.counted() == {"exported": 1}
    assert it.lines() == []


def test_requests_that_come_together_are_one_batch(monkeypatch):
    monkeypatch.setattr(trace_export, "EXPORT_EVERY", bounds.STEP)
    monkeypatch.setattr(trace_export, "AT_ONCE", 3)
    with Exporting() as it:
        for _ in range(4):
            offer(it, record(call=None))
        sender = it.next_sender()
        assert len(sender.next()) == 3
    assert len(sender.next()) == 1  # at the end it does not wait for more
    assert it.counted() == {"exported": 4}


def test_a_request_that_is_not_sampled_and_no_feedback_is_not_sent():
    with Exporting() as it:
        offer(it, record(is_exported=False))
        offer(it, record(call=None))
        assert it.next_sender().next() == ["POST /api/v1/prediction/{flow}"]
    assert it.counted() == {"exported": 1}


def test_what_a_slow_collector_does_not_take_is_bounded_and_counted(monkeypatch):
    monkeypatch.setattr(trace_export, "MOST_WAITING", 10 * SIZE)
    with Exporting() as it:
        offer(it, record())
        sender = it.next_sender()
        sender.next()
        sender.may_answer.clear()
        offer(it, record())
        sender.next()
        taken = sum(offer(it, record()) for _ in range(1000))
        assert taken == 9  # with the one that is being sent
        assert it.counted()["queue_full"] == 991
        (line,) = it.lines()
        assert (line["event"], line["level"], line["count"]) == ("traces_lost", "warning", 991)
        sender.may_answer.set()
    assert it.counted() == {"exported": 11, "queue_full": 991}


def test_what_was_exported_is_not_held_until_the_next_batch():
    made = Made(record())
    held = weakref.ref(made)
    with Exporting() as it:
        it.export.offer(Handed(made, SIZE, True))
        del made
        it.next_sender().next()
        while held() is not None:
            pass


def test_a_large_trace_counts_with_its_size(monkeypatch):
    monkeypatch.setattr(trace_export, "MOST_WAITING", 100_000)
    with Exporting() as it:
        assert not offer(it, with_nodes(NodeEvidence(size=100_000)))
        assert offer(it, with_nodes(NodeEvidence(size=90_000)))
    assert it.counted() == {"exported": 1, "queue_full": 1}


def test_a_collector_that_refuses_is_said_once_a_minute():
    with Exporting() as it:
        offer(it, record())
        sender = it.next_sender()
        sender.next()
        while not it.export._worker._exported:  # it has the answer of this one
            pass
        sender.reason = "503 go away"

        def lose(count):
            lost = it.export._worker._failed + count
            for _ in range(count):
                offer(it, record())
            while it.export._worker._failed < lost:
                pass

        for count, now in ((3, 0.0), (2, 1.0), (1, LOG_AGAIN - 1), (4, LOG_AGAIN)):
            lose(count)
            it.export.tick(now)
    assert [(line["count"], line["reason"]) for line in it.lines()] == [
        (3, "503 go away"),
        (7, "503 go away"),
    ]
    assert it.counted() == {"exported": 1, "failed": 10}


def test_the_end_waits_for_a_collector_that_does_not_answer_only_so_long(monkeypatch):
    monkeypatch.setattr(trace_export, "FLUSH_WITHIN", 0.05)
    it = Exporting()
    it.export.use(ON)
    offer(it, record())
    sender = it.next_sender()
    sender.next()
    while it.counted() != {"exported": 1}:  # by the thread, after it was sent
        os.sched_yield()
    sender.may_answer.clear()
    offer(it, record())
    began = monotonic()
    it.export.close()
    assert monotonic() - began < bounds.STEP
    assert sender.is_closed
    (line,) = it.lines()
    assert (line["event"], line["count"], line["reason"]) == ("traces_lost", 1, "the process has ended")
    assert it.counted() == {"exported": 1, "failed": 1}


def test_other_settings_apply_to_what_comes_after_them():
    with Exporting() as it:
        offer(it, record())
        first = it.next_sender()
        first.next()
        it.export.use(TraceSettings(service="other"))
        it.export.use(TraceSettings(service="other"))  # the same: nothing changes
        offer(it, record())
        second = it.next_sender()
        second.next()
        assert (first.is_closed, second.is_closed, second.settings.service) == (True, False, "other")
        it.export.use(None)
        it.export.use(ON)
        it.next_sender()
        assert second.is_closed
    assert it.senders.empty()


def test_without_traces_there_is_no_thread():
    it = Exporting()
    before = threading.active_count()
    it.export.use(None)
    it.export.tick(0.0)
    it.export.close()
    assert threading.active_count() == before
    assert it.senders.empty()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_ends_one_batch_and_not_the_traces(monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with Exporting() as it:
        offer(it, record(policies=None))  # breaks what makes the spans
        worker = it.export._worker
        worker._thread.join(bounds.STEP)
        it.export.tick(0.0)
        assert [line["event"] for line in it.lines()] == ["bug"]
        offer(it, record())
        it.next_sender().next()
        assert worker._waiting <= 2 * SIZE
    assert it.counted() == {"exported": 1, "failed": 1}


def test_a_sender_that_cannot_be_made_says_why():
    def broken(_):
        raise ValueError("no such variable")

    it = Exporting(broken)
    with it:
        offer(it, record())
    assert it.counted() == {"failed": 1}
    assert it.lines()[0]["reason"] == "no such variable"


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "gateway.telemetry.otlp", None)
    with pytest.raises(ValueError, match=r"pip install flowise-gateway\[otel\]"):
        check_traces(ON)
    check_traces(None)


def test_check_says_so(monkeypatch, tmp_path, capsys):
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps({**configuration("http://127.0.0.1:9"), "traces": {}}))
    assert main(["check", "--config", str(path)]) == 0
    monkeypatch.setitem(sys.modules, "gateway.telemetry.otlp", None)
    assert main(["check", "--config", str(path)]) == 1
    assert NO_PACKAGE in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    assert main(["check", "--config", str(path)]) == 1
    assert "Invalid timeout value 'soon'" in capsys.readouterr().err


# -- feedback --------------------------------------------------------------------------------------


def answered(name):
    return with_nodes(NodeEvidence(metadata=event("metadata", f'{{"chatId":"c","chatMessageId":"{name}"}}')))


def thumb(message="", stored="", **changes):
    return record(call=None, feedback=GivenFeedback(message, stored, "THUMBS_UP"), **changes)


def test_a_thumb_belongs_to_the_trace_of_its_answer_also_if_it_is_changed():
    with Exporting() as it:
        offer(it, answered("m-1"))
        sender = it.next_sender()
        sender.next()
        offer(it, thumb("m-1", "f-1"))
        assert sender.next() == ["POST /api/v1/prediction/{flow}", "feedback"]
        offer(it, thumb("", "f-1", is_exported=False))  # its own trace is not sampled
        assert sender.next() == ["feedback"]
        offer(it, thumb("m-2", "f-2"))  # of an answer that is not known here
        assert sender.next() == ["POST /api/v1/prediction/{flow}"]
    assert it.export._worker._answers.of(GivenFeedback("m-1", "", "")) == (TRACE, CHILD)


def test_only_the_last_answers_are_remembered(monkeypatch):
    monkeypatch.setattr(trace_export, "MOST_ANSWERS", 2)
    with Exporting() as it:
        for number in range(5):
            offer(it, answered(f"m-{number}"))
        it.next_sender()
    assert list(it.export._worker._answers._known) == ["m-3", "m-4"]
