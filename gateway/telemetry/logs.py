"""The logger: one line per event, as JSON or for a console, by structlog.

A line never holds a prompt, an answer, a key or a token; `logs.prompts: true` adds the question, nothing else.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, TextIO, cast

import msgspec
import structlog

from gateway.config import LogSettings

Logger = structlog.typing.FilteringBoundLogger
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def make_logger(settings: LogSettings, stream: TextIO | None = None, **fields: Any) -> Logger:
    """A logger that writes to `stream`, by default standard output, and adds `fields` to each line."""
    out = sys.stdout if stream is None else stream
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    wrapper = structlog.make_filtering_bound_logger(_LEVELS[settings.level])
    if settings.format == "console":
        colors = out.isatty()
        rendering: list[structlog.typing.Processor] = [
            structlog.dev.ConsoleRenderer(
                colors=colors,
                timestamp_key="time",
                exception_formatter=structlog.dev.plain_traceback,  # others print the values of variables
            )
        ]
    else:
        as_json = structlog.processors.JSONRenderer(serializer=_encode)
        rendering = [structlog.processors.format_exc_info, as_json]
    logger: Logger = structlog.wrap_logger(
        structlog.WriteLogger(cast(TextIO, LossyStream(out))),
        processors=[*shared, *rendering],
        wrapper_class=wrapper,
    )
    return logger.bind(**fields) if fields else logger


class LossyStream:
    """A stream that loses lines instead of raising on a full disk or closed pipe, and reports how many it lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lost = 0

    def write(self, text: str) -> None:
        if self._lost:
            text = f'{{"event":"log_lines_lost","level":"warning","count":{self._lost}}}\n{text}'
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
    try:
        return msgspec.json.encode(line).decode()
    except UnicodeEncodeError:  # half a surrogate pair somewhere
        return json.dumps(line, default=str)
