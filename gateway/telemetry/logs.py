"""The logger: one line per event, as JSON or for a console, by structlog.

A line never holds a prompt, an answer, a key or a token; `logs.prompts: true` adds the question and the error texts of
Flowise, nothing else.
What `log_lines` says holds for every line.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO, cast

import msgspec
import structlog

from gateway.config import LogSettings
from gateway.printable import printable
from gateway.telemetry.console import ConsoleRenderer
from gateway.telemetry.log_file import LogFile
from gateway.telemetry.log_lines import escaped, new_names, renamed, shortened, within_bound
from gateway.telemetry.log_writer import LOST, LogWriter

Logger = structlog.typing.FilteringBoundLogger
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_FOR_READING: tuple[structlog.typing.Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False, key="time"),
    structlog.processors.format_exc_info,  # not structlog.dev's, which prints the values of variables
)


def stamped(logger: Any, method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add what structlog's `add_log_level`, `TimeStamper` and `format_exc_info` add: one call for them, not seven."""
    line["level"] = method
    line["time"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return structlog.processors.format_exc_info(logger, method, line) if "exc_info" in line else line


def make_logger(
    settings: LogSettings,
    stream: TextIO | LogWriter | None = None,
    *,
    has_colors: bool = False,
    **fields: Any,
) -> Logger:
    """A logger that writes one line per event, with these fields. The other arguments are those of `LogOutput`."""
    return LogOutput(settings, stream, has_colors=has_colors).logger(**fields)


class LogOutput:
    """Where lines go, in which format and from which level on. `use` changes all of it for all loggers at once."""

    def __init__(
        self, settings: LogSettings, stream: TextIO | LogWriter | None = None, *, has_colors: bool = False
    ) -> None:
        """An output.

        Args:
            settings: format and level; `auto` is for reading where the stream is a terminal, else JSON. A file in it
                takes the place of the stream if that is a `LogWriter`.
            stream: where to; by default standard output.
            has_colors: whether a terminal may get colours.
        """
        out = sys.stdout if stream is None else stream
        self._is_on_terminal = out.isatty()
        self._has_colors = has_colors
        self._out = out if isinstance(out, LogWriter) else LossyStream(out)
        self._file: Path | None = None
        self.use(settings)

    @property
    def lost(self) -> int:
        """Lines that were lost, ever."""
        return self._out.lost

    def use(self, settings: LogSettings) -> None:
        self._lowest = _LEVELS[settings.level]
        if isinstance(self._out, LogWriter) and settings.file != self._file:
            self._file = settings.file
            self._out.divert(None if settings.file is None else LogFile(settings.file))
        is_terminal = self._is_on_terminal and self._file is None
        is_for_reading = settings.format == "console" or (settings.format == "auto" and is_terminal)
        names = new_names(settings.fields.drop, settings.fields.rename)
        self._out.report = _lost_for_reading if is_for_reading else partial(_lost, names)
        self._processors: tuple[structlog.typing.Processor, ...] = (
            _FOR_READING if is_for_reading else (stamped,)
        )
        self._render: Callable[[Mapping[str, Any]], str] = (
            _for_reading(ConsoleRenderer(has_colors=self._has_colors and is_terminal))
            if is_for_reading
            else partial(within_bound, render=_json)
        )
        if names and not is_for_reading:
            self._processors += (partial(_rename, names),)

    def listening(self, logger: Logger, public: str, admin: str) -> None:
        """Log where the gateway serves; show a terminal that sees no log, because it is in a file, where both are."""
        logger.info("listening", public=public, admin=admin)
        if self._is_on_terminal and self._file is not None and isinstance(self._out, LogWriter):
            log = printable(str(self._file))
            self._out.say(f"Serves on {public}, with the admin port on {admin}. The log is in {log}.\n")

    def reopen(self) -> None:
        """Take the file that is at the path of the log by now."""
        if isinstance(self._out, LogWriter):
            self._out.reopen()

    def logger(self, **fields: Any) -> Logger:
        """A logger that adds these fields to each line."""
        logger: Logger = structlog.wrap_logger(
            structlog.WriteLogger(cast(TextIO, self._out)),
            processors=[self._process],
            wrapper_class=structlog.make_filtering_bound_logger(
                _LEVELS["debug"]
            ),  # `_process` knows the level
        )
        return logger.bind(**fields) if fields else logger

    def _process(self, logger: Any, method: str, line: structlog.typing.EventDict) -> Any:
        """The line as text.

        Raises:
            DropEvent: its level is not logged; structlog then writes nothing.
        """
        if _LEVELS[method] < self._lowest:
            raise structlog.DropEvent
        written: Any = line
        for process in self._processors:
            written = process(logger, method, written)
        return self._render(written)


class LossyStream:
    """A stream that loses lines instead of raising on a full disk or closed pipe, and reports how many it lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.report: Callable[[int], str] = partial(_lost, {})
        self.lost = 0
        self._unreported = 0

    def write(self, text: str) -> None:
        if self._unreported:
            text = self.report(self._unreported) + text
        try:
            self._stream.write(text)
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._lose()
        else:
            self._unreported = 0

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._lose()

    def _lose(self) -> None:
        self.lost += 1
        self._unreported += 1


class LibraryLog(logging.Handler):
    """Logs a library's record as a line with level, library and message template, without arguments or traceback."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        level = record.levelname.lower() if record.levelname.lower() in _LEVELS else "error"
        getattr(self._logger, level)("library", library=record.name, message=str(record.msg), error=error)


def _rename(names: Mapping[str, str], _logger: Any, _method: str, line: Mapping[str, Any]) -> dict[str, Any]:
    return renamed(line, names)


def _lost(names: Mapping[str, str], count: int) -> str:
    return _json(renamed({"event": LOST, "level": "warning", "count": count}, names)) + "\n"


def _lost_for_reading(count: int) -> str:
    return f"{LOST} count={count}\n"


def _json(line: Mapping[str, Any]) -> str:
    try:
        return escaped(msgspec.json.encode(line).decode())
    except UnicodeEncodeError:  # half a surrogate pair somewhere
        return json.dumps(line, default=str)


def _for_reading(renderer: ConsoleRenderer) -> Callable[[Mapping[str, Any]], str]:
    def render(line: Mapping[str, Any]) -> str:
        # shortened before: rendering costs a step for each character
        return within_bound(shortened(line), lambda line: renderer(None, "", line))

    return render
