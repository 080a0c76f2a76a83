"""Writes log lines in a thread, so that a full pipe, a slow disk or the lines of other processes never block the loop.

Lines that nothing takes wait, up to a bound. Beyond it, and on a full disk or a closed pipe, they are lost and counted,
and the next line that is written says how many.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import Protocol, Self

STANDARD_OUTPUT = 1
MOST_WAITING = 4 * 1024 * 1024  # characters of lines: some 6,000 requests
AT_ONCE = 200  # lines of one write
# Seconds for more lines after a write, which the next one takes together. To wake the thread for each line takes about
# 6 % of the CPU of a request.
GATHER = 0.01
FLUSH_WITHIN = 2.0  # seconds at the end, for the lines that wait
LOST = "log_lines_lost"  # the event that says how many


class LineStream(Protocol):
    """Where lines are written to. `whole_lines`: how many the last write has written, also if it failed."""

    whole_lines: int

    def write(self, text: str) -> object:
        """Write all of it; may block. Raises OSError."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""


class NamedStream(LineStream, Protocol):
    """A `LineStream` that opens its destination by a name."""

    def reopen(self) -> None:
        """Take what has the name by now."""

    def close(self) -> None:
        """Let go of what it has opened."""


class DescriptorLines:
    """A `LineStream` of one process.

    Attributes:
        descriptor: where the lines go.
        half_line: bytes of a line that a write has left when it failed in its middle.
    """

    def __init__(self, descriptor: int = STANDARD_OUTPUT) -> None:
        self.descriptor = descriptor
        self.half_line = 0
        self.whole_lines = 0

    def write(self, text: str) -> int:
        """Write all of it; blocks while the pipe is full, also if the descriptor itself does not.

        Raises:
            OSError: the disk is full or the pipe is closed.
        """
        prefix = b"\n" if self.half_line else b""  # what was lost spoils no other line
        content = prefix + text.encode(errors="backslashreplace")
        at = 0
        try:
            while at < len(content):
                try:
                    at += os.write(self.descriptor, memoryview(content)[at:])
                except BlockingIOError:
                    select.select([], [self.descriptor], [])
        finally:
            written = content[:at]
            if written:
                self.half_line = at - written.rfind(b"\n") - 1
            self.whole_lines = written.count(b"\n", len(prefix))
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines are not buffered."""

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)


class LogWriter:
    """A text stream for loggers of any thread, from `with` to its end.

    Attributes:
        report: makes the line that says how many lines were lost, in the format of the others.
        lost: lines that were lost, ever.
    """

    def __init__(self, stream: LineStream, most_waiting: int = MOST_WAITING) -> None:
        self.report: Callable[[int], str] = _json_report
        self.lost = 0
        self._own = stream
        self._other: NamedStream | None = None  # takes its place
        self._most_waiting = most_waiting
        # a callable is called in its turn
        self._lines: SimpleQueue[str | Callable[[], None] | None] = SimpleQueue()
        self._waiting = 0  # characters
        self._unreported = 0  # lost lines
        self._lock = Lock()  # of the three numbers
        self._is_ending = Event()
        self._thread = Thread(target=self._write_all, name="log", daemon=True)  # may be blocked for ever

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write the lines that wait, for `FLUSH_WITHIN` seconds at most."""
        self._lines.put(None)
        self._is_ending.set()
        self._thread.join(FLUSH_WITHIN)

    def divert(self, stream: NamedStream | None) -> None:
        """Write the lines from now on to this stream, which is closed at the end; None: to its own again."""
        self._lines.put(partial(self._divert, stream))

    def say(self, text: str) -> None:
        """Write a line to its own stream, standard output, also while it is diverted. None, if nothing takes it now."""
        self._lines.put(partial(self._say, text))

    def reopen(self) -> None:
        """Let the stream that it was diverted to take what has its name by now."""
        self._lines.put(self._reopen)

    def _divert(self, stream: NamedStream | None) -> None:
        if self._other is not None:
            self._other.close()
        self._other = stream

    def _say(self, text: str) -> None:
        with suppress(OSError):  # it is for somebody who watches
            if takes_now(STANDARD_OUTPUT):  # else the terminal is stopped, and would stop the log
                self._own.write(text)

    def _reopen(self) -> None:
        if self._other is not None:
            self._other.reopen()

    def write(self, text: str) -> int:
        """Let the thread write a line. Never blocks and never raises."""
        size = len(text)
        with self._lock:
            if self._waiting + size > self._most_waiting:
                self.lost += 1
                self._unreported += 1
                return size
            self._waiting += size
        self._lines.put(text)
        return size

    def flush(self) -> None:
        """Do nothing: the thread writes a line as soon as it can, at most `GATHER` after the one before."""

    def isatty(self) -> bool:
        return self._own.isatty()

    def _write_all(self) -> None:
        then: Callable[[], None] | None = _nothing
        while then is not None:
            lines, then = self._next()
            self._write(lines)
            if then is not None:
                then()
                if len(lines) < AT_ONCE:
                    self._is_ending.wait(GATHER)
        self._divert(None)

    def _write(self, lines: list[str]) -> None:
        with self._lock:
            reported, text = self._unreported, "".join(lines)
        report = self.report(reported) if reported else ""
        stream = self._other or self._own
        try:
            if report or text:
                stream.write(report + text)
        except OSError:
            whole = stream.whole_lines
            is_reported = bool(report and whole)
            failed = max(0, len(lines) - whole + is_reported)
        else:
            is_reported, failed = True, 0
        with self._lock:
            self._waiting -= len(text)
            self._unreported += failed - (reported if is_reported else 0)
            self.lost += failed

    def _next(self) -> tuple[list[str], Callable[[], None] | None]:
        """Wait for a line; returns the lines that wait by then, and what to do after them; None: it is the end."""
        lines: list[str] = []
        line = self._lines.get()
        try:
            while isinstance(line, str):
                lines.append(line)
                if len(lines) == AT_ONCE:
                    return lines, _nothing
                line = self._lines.get_nowait()
        except Empty:
            return lines, _nothing
        return lines, line


def takes_now(descriptor: int) -> bool:
    """Whether a write would not be held up; False also if there is no such descriptor."""
    try:
        return bool(select.select([], [descriptor], [], 0)[1])
    except (OSError, ValueError):
        return False


def _nothing() -> None:
    """There is nothing to do but to write on."""


def _json_report(count: int) -> str:
    return f'{{"event":"{LOST}","level":"warning","count":{count}}}\n'
