"""Writes log lines in a thread, so that a full pipe, a slow disk or the lines of other processes never block the loop.

Lines that nothing takes wait, up to a bound. Beyond it, and on a full disk or a closed pipe, they are lost and counted,
and the next line that is written says how many.
"""

from __future__ import annotations

import os
import select
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Protocol, Self

STANDARD_OUTPUT = 1
MOST_WAITING = 4 * 1024 * 1024  # characters of lines: some 6,000 requests
AT_ONCE = 200  # lines of one write
FLUSH_WITHIN = 2.0  # seconds at the end, for the lines that wait
_JSON_REPORT = '{{"event":"log_lines_lost","level":"warning","count":{}}}\n'


class LineStream(Protocol):
    """Where lines are written to. `whole_lines`: how many the last write has written, also if it failed."""

    whole_lines: int

    def write(self, text: str) -> object:
        """Write all of it; may block. Raises OSError."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""


class DescriptorLines:
    """A `LineStream` of one process."""

    def __init__(self, descriptor: int = STANDARD_OUTPUT) -> None:
        self._descriptor = descriptor
        self._is_inside_line = False  # after a write that failed in its middle
        self.whole_lines = 0

    def write(self, text: str) -> int:
        """Write all of it; blocks while the pipe is full, also if the descriptor itself does not.

        Raises:
            OSError: the disk is full or the pipe is closed.
        """
        prefix = b"\n" if self._is_inside_line else b""  # what was lost spoils no other line
        content = prefix + text.encode(errors="backslashreplace")
        at = 0
        try:
            while at < len(content):
                try:
                    at += os.write(self._descriptor, memoryview(content)[at:])
                except BlockingIOError:
                    select.select([], [self._descriptor], [])
        finally:
            written = content[:at]
            if written:
                self._is_inside_line = not written.endswith(b"\n")
            self.whole_lines = written.count(b"\n", len(prefix))
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines are not buffered."""

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


class LogWriter:
    """A text stream for loggers of any thread, from `with` to its end.

    Attributes:
        report: a line for `str.format` with the number of lost lines, in the format of the others.
        lost: lines that were lost, ever.
    """

    def __init__(self, stream: LineStream, most_waiting: int = MOST_WAITING) -> None:
        self.report = _JSON_REPORT
        self.lost = 0
        self._stream = stream
        self._most_waiting = most_waiting
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._waiting = 0  # characters
        self._unreported = 0  # lost lines
        self._lock = Lock()  # of the three numbers
        self._thread = Thread(target=self._write_all, name="log", daemon=True)  # may be blocked for ever

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write the lines that wait, for `FLUSH_WITHIN` seconds at most."""
        self._lines.put(None)
        self._thread.join(FLUSH_WITHIN)

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
        """Do nothing: the thread writes a line as soon as it can."""

    def isatty(self) -> bool:
        return self._stream.isatty()

    def _write_all(self) -> None:
        is_last = False
        while not is_last:
            lines, is_last = self._next()
            with self._lock:
                reported, text = self._unreported, "".join(lines)
            report = self.report.format(reported) if reported else ""
            try:
                if report or text:
                    self._stream.write(report + text)
            except OSError:
                whole = self._stream.whole_lines
                is_reported = bool(report and whole)
                failed = max(0, len(lines) - whole + is_reported)
            else:
                is_reported, failed = True, 0
            with self._lock:
                self._waiting -= len(text)
                self._unreported += failed - (reported if is_reported else 0)
                self.lost += failed

    def _next(self) -> tuple[list[str], bool]:
        """Wait for a line; returns the lines that wait by then, and whether they are the last."""
        lines: list[str] = []
        line = self._lines.get()
        try:
            while line is not None:
                lines.append(line)
                if len(lines) == AT_ONCE:
                    return lines, False
                line = self._lines.get_nowait()
        except Empty:
            return lines, False
        return lines, True
