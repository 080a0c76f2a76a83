"""The logger: one line per event, as JSON or for a console, by structlog.

A line never holds a prompt, an answer, a key or a token; `logs.prompts: true` adds the question and the error texts of
Flowise, nothing else.
What `log_lines` says holds for every line.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any, TextIO, cast

import msgspec
import structlog

from gateway.config import LogSettings
from gateway.telemetry.console import ConsoleRenderer
from gateway.telemetry.log_lines import escaped, shortened, within_bound
from gateway.telemetry.log_writer import LogWriter

Logger = structlog.typing.FilteringBoundLogger
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def make_logger(
    settings: LogSettings,
    stream: TextIO | LogWriter | None = None,
    *,
    has_colors: bool = False,
    **fields: Any,
) -> Logger:
    """A logger that writes one line per event.

    Args:
        settings: format and level; `auto` is for reading where the stream is a terminal, else JSON.
        stream: where to; by default standard output.
        has_colors: whether a terminal may get colours.
        fields: added to each line.
    """
    out = sys.stdout if stream is None else stream
    is_terminal = out.isatty()
    formatter: structlog.typing.Processor
    if settings.format == "console" or (settings.format == "auto" and is_terminal):
        formatter = _for_reading(ConsoleRenderer(has_colors=has_colors and is_terminal))
        time = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False, key="time")
        lost = "log_lines_lost count={}\n"
    else:
        formatter = structlog.processors.JSONRenderer(serializer=_encode)
        time = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")
        lost = '{{"event":"log_lines_lost","level":"warning","count":{}}}\n'
    out = _reporting(out, lost)
    logger: Logger = structlog.wrap_logger(
        structlog.WriteLogger(cast(TextIO, out)),
        processors=[
            structlog.processors.add_log_level,
            time,
            structlog.processors.format_exc_info,  # not structlog.dev's, which prints the values of variables
            formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
    )
    return logger.bind(**fields) if fields else logger


def _reporting(out: TextIO | LogWriter, lost: str) -> TextIO | LogWriter:
    """The stream, which writes `lost` with the number of lines that it could not write."""
    if isinstance(out, LogWriter):
        out.report = lost
        return out
    return cast(TextIO, LossyStream(out, lost))


class LossyStream:
    """A stream that loses lines instead of raising on a full disk or closed pipe, and reports how many it lost."""

    def __init__(self, stream: TextIO, report: str) -> None:
        """`report`: a line for `str.format` with the number of lines that were lost."""
        self._stream = stream
        self._report = report
        self._lost = 0

    def write(self, text: str) -> None:
        if self._lost:
            text = self._report.format(self._lost) + text
        try:
            self._stream.write(text)
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._lost += 1
        else:
            self._lost = 0

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._lost += 1


class LibraryLog(logging.Handler):
    """Logs a library's record as a line with level, library and message template, without arguments or traceback."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        level = record.levelname.lower() if record.levelname.lower() in _LEVELS else "error"
        getattr(self._logger, level)("library", library=record.name, message=str(record.msg), error=error)


def _encode(line: Any, **_: Any) -> str:
    return within_bound(line, _json)


def _json(line: Mapping[str, Any]) -> str:
    try:
        return escaped(msgspec.json.encode(line).decode())
    except UnicodeEncodeError:  # half a surrogate pair somewhere
        return json.dumps(line, default=str)


def _for_reading(renderer: ConsoleRenderer) -> structlog.typing.Processor:
    def render(logger: Any, method: str, line: Mapping[str, Any]) -> str:
        # shortened before: rendering costs a step for each character
        return within_bound(shortened(line), lambda line: renderer(logger, method, line))

    return render
