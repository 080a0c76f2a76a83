"""The thread that writes log lines: nothing blocks its callers, and what is lost is counted."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from time import monotonic

import pytest

from gateway.config import LogSettings
from gateway.telemetry import log_writer
from gateway.telemetry.log_writer import DescriptorLines, LogWriter
from gateway.telemetry.logs import LogOutput, make_logger
from tests.harness import bounds


class Stream:
    """Records what is written; blocks while it is closed, fails while it is full."""

    def __init__(self, *, is_terminal=False):
        self.writes = []
        self.is_open = threading.Event()
        self.is_open.set()
        self.has_begun = threading.Event()
        self.is_full = False
        self.whole_lines = 0
        self._is_terminal = is_terminal

    def write(self, text):
        self.has_begun.set()
        assert self.is_open.wait(bounds.STEP)
        self.whole_lines = 0
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.writes.append(text)
        self.whole_lines = text.count("\n")

    def isatty(self):
        return self._is_terminal

    @property
    def lines(self):
        return "".join(self.writes).splitlines()


def waits(condition):
    until = monotonic() + bounds.STEP
    while not condition():
        assert monotonic() < until


def test_lines_are_written_in_order_and_many_in_one_write():
    stream = Stream()
    stream.is_open.clear()
    with LogWriter(stream) as writer:
        for number in range(1000):
            writer.write(f"{number}\n")
        stream.is_open.set()
    assert stream.lines == [str(number) for number in range(1000)]
    assert len(stream.writes) < 10
    assert writer.lost == 0


def test_the_first_line_is_written_at_once_and_those_that_follow_it_closely_together(monkeypatch):
    monkeypatch.setattr(log_writer, "GATHER", bounds.TEST)  # the end does not wait for it
    stream = Stream()
    with LogWriter(stream) as writer:
        writer.write("first\n")
        waits(lambda: stream.writes)
        for number in range(100):
            writer.write(f"{number}\n")
            os.sched_yield()  # the thread would write it
    assert stream.writes == ["first\n", "".join(f"{number}\n" for number in range(100))]


@pytest.mark.parametrize("form", ["json", "console"])
def test_lines_beyond_the_bound_are_lost_counted_and_reported_by_the_next(form):
    stream = Stream()
    stream.is_open.clear()
    with LogWriter(stream, most_waiting=1000) as writer:
        logger = make_logger(LogSettings(format=form), writer)
        logger.info("first")
        assert stream.has_begun.wait(bounds.STEP)
        for _ in range(100):
            logger.info("listening", text="x" * 90)
        assert 80 < writer.lost < 100
        kept = 101 - writer.lost
        stream.is_open.set()
        waits(lambda: len(stream.lines) >= kept)
        logger.info("last")
    lost = [line for line in stream.lines if "log_lines_lost" in line]
    assert len(lost) == 1
    assert len(stream.lines) == kept + 2
    if form == "json":
        assert json.loads(lost[0])["count"] == writer.lost
        assert json.loads(stream.lines[0])["event"] == "first"
    else:
        assert lost == [f"log_lines_lost count={writer.lost}"]


def test_a_full_disk_loses_lines_and_says_so_when_it_has_space():
    stream = Stream()
    stream.is_full = True
    with LogWriter(stream) as writer:
        writer.write("one\n")
        writer.write("two\n")
        waits(lambda: writer.lost == 2)
        stream.is_full = False
        writer.write("three\n")
    assert stream.lines == ['{"event":"log_lines_lost","level":"warning","count":2}', "three"]


def test_the_end_does_not_wait_for_a_reader_that_stands_still(monkeypatch):
    monkeypatch.setattr(log_writer, "FLUSH_WITHIN", 0.05)
    stream = Stream()
    stream.is_open.clear()
    with LogWriter(stream) as writer:
        writer.write("one\n")
        began = monotonic()
    assert monotonic() - began < bounds.STEP
    assert stream.writes == []
    stream.is_open.set()


def test_lines_of_many_threads_are_all_written():
    stream = Stream()
    with LogWriter(stream) as writer:
        threads = [
            threading.Thread(target=lambda name=name: [writer.write(f"{name}\n") for _ in range(300)])
            for name in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(stream.lines) == sorted("abcd" * 300)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_format_follows_the_stream(is_terminal):
    stream = Stream(is_terminal=is_terminal)
    with LogWriter(stream) as writer:
        make_logger(LogSettings(), writer).info("listening")
    assert stream.lines[0].startswith("{") is not is_terminal


@pytest.mark.parametrize("is_terminal", [False, True])
@pytest.mark.parametrize("is_in_file", [False, True])
def test_a_terminal_whose_log_is_in_a_file_shows_where_that_is_and_where_the_gateway_serves(
    is_terminal, is_in_file, tmp_path
):
    log = tmp_path / "a.log"
    stream = Stream(is_terminal=is_terminal)
    with LogWriter(stream) as writer:
        output = LogOutput(LogSettings(file=str(log) if is_in_file else ""), writer)
        output.listening(output.logger(), "127.0.0.1:1, unix:/a", "127.0.0.1:2")
    said = f"Serves on 127.0.0.1:1, unix:/a, with the admin port on 127.0.0.1:2. The log is in {log}."
    assert (stream.lines == [said]) is (is_terminal and is_in_file)
    assert bool(stream.lines) is (is_terminal or not is_in_file)
    assert log.exists() is is_in_file


# -- descriptors -----------------------------------------------------------------------------------


def test_a_pipe_that_does_not_block_is_waited_for():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    text = "x" * 50_000 + "\n"
    thread = threading.Thread(target=lambda: (DescriptorLines(writing).write(text), os.close(writing)))
    thread.start()
    with os.fdopen(reading) as pipe:
        assert pipe.read() == text
    thread.join()


def test_a_write_that_fails_in_the_middle_spoils_no_later_line(monkeypatch, tmp_path):
    """A disk that takes 7 bytes and is full then."""
    path, write, space = tmp_path / "out", os.write, 7

    def limited(descriptor, data):
        nonlocal space
        if not space:
            raise OSError(28, "No space left on device")
        written = write(descriptor, data[:space])
        space -= written
        return written

    with path.open("wb") as file:
        lines = DescriptorLines(file.fileno())
        monkeypatch.setattr(os, "write", limited)
        with pytest.raises(OSError, match="No space"):
            lines.write("one\ntwo two\nthree\n")
        assert lines.whole_lines == 1
        space = 100
        lines.write("four\n")
    assert path.read_text() == "one\ntwo\nfour\n"


def test_lines_that_a_full_disk_took_are_not_counted_as_lost():
    class Partial(Stream):
        def write(self, text):
            self.whole_lines = 1
            raise OSError(28, "No space left on device")

    stream = Partial()
    stream.is_open.clear()
    with LogWriter(stream) as writer:
        writer.write("one\n")
    assert writer.lost == 0
