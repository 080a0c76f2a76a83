"""Log lines, and the traceback of a bug."""

from __future__ import annotations

import io
import json
import logging
from datetime import UTC, datetime

import pytest
import structlog

from gateway.config import LogSettings
from gateway.telemetry import logs
from gateway.telemetry.logs import LibraryLog, make_logger


@pytest.fixture
def out():
    return io.StringIO()


def line_of(out):
    (line,) = out.getvalue().splitlines()
    return json.loads(line)


def broken():
    raise ZeroDivisionError("not today")


def test_a_line_has_its_time_level_and_event(out):
    make_logger(LogSettings(), out).info("listening", public="127.0.0.1:8080")
    line = line_of(out)
    assert (line["level"], line["event"], line["public"]) == ("info", "listening", "127.0.0.1:8080")
    assert line["time"].endswith("Z")


@pytest.mark.parametrize("at", [datetime(2026, 1, 2, 3, 4, 5, 678, UTC), datetime(2026, 1, 2, tzinfo=UTC)])
@pytest.mark.parametrize("method", ["info", "error"])
@pytest.mark.parametrize("bug", [{}, {"exc_info": ZeroDivisionError("not today")}, {"exc_info": False}])
def test_a_line_is_stamped_as_structlogs_own_processors_do_it(monkeypatch, at, method, bug):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return at.astimezone(tz)

    monkeypatch.setattr(logs, "datetime", Clock)
    monkeypatch.setattr(structlog.processors.datetime, "datetime", Clock)
    expected = {"event": "bug", "client": "127.0.0.1", **bug}
    for process in (
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ):
        expected = process(None, method, expected)
    found = logs.stamped(None, method, {"event": "bug", "client": "127.0.0.1", **bug})
    assert list(found.items()) == list(expected.items())


def test_lines_below_the_level_are_not_written(out):
    logger = make_logger(LogSettings(level="warning"), out)
    logger.info("listening")
    logger.warning("connection_closed")
    assert line_of(out)["event"] == "connection_closed"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_bug_is_logged_with_its_traceback(out, form):
    logger = make_logger(LogSettings(format=form), out)
    try:
        broken()
    except ZeroDivisionError as error:
        bug = error
    logger.error("bug", exc_info=bug)
    assert "ZeroDivisionError" in out.getvalue()
    assert "in broken" in out.getvalue()


def test_a_json_bug_is_one_line(out):
    try:
        broken()
    except ZeroDivisionError as error:
        make_logger(LogSettings(), out).error("bug", exc_info=error)
    assert "not today" in line_of(out)["exception"]


def test_a_librarys_record_becomes_a_line_without_its_arguments_or_traceback(out):
    library = logging.Logger("aiohttp.server")  # noqa: LOG001 - outside the global tree
    library.addHandler(LibraryLog(make_logger(LogSettings(), out)))
    try:
        broken()
    except ZeroDivisionError:
        library.exception("Error handling request from %s", b"GET /secret")
    line = line_of(out)
    del line["time"]
    assert line == {
        "level": "error",
        "event": "library",
        "library": "aiohttp.server",
        "message": "Error handling request from %s",
        "error": "ZeroDivisionError",
    }


class Full(io.StringIO):
    """A disk that is full at first."""

    is_full = True

    def write(self, text):
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_a_full_disk_raises_nothing_and_the_count_of_lost_lines_is_logged_later():
    out = Full()
    logger = make_logger(LogSettings(), out)
    logger.info("one")
    logger.info("two")
    out.is_full = False
    logger.info("three")
    lost, line = map(json.loads, out.getvalue().splitlines())
    assert (lost["event"], lost["count"]) == ("log_lines_lost", 2)
    assert line["event"] == "three"


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("form", "stream", "is_json"),
    [
        ("auto", io.StringIO, True),
        ("auto", Screen, False),
        ("json", Screen, True),
        ("console", io.StringIO, False),
    ],
)
def test_the_format_is_json_unless_the_stream_is_a_terminal_or_the_configuration_says_so(
    form, stream, is_json
):
    out = stream()
    make_logger(LogSettings(format=form), out, has_colors=True).info("listening", public="127.0.0.1:8080")
    assert out.getvalue().startswith("{") is is_json
    assert ("\x1b" in out.getvalue()) is (not is_json and stream is Screen)


def test_lost_lines_are_reported_in_the_format_of_the_others():
    out = Full()
    logger = make_logger(LogSettings(format="console"), out)
    logger.info("one")
    out.is_full = False
    logger.info("two")
    lost, line = out.getvalue().splitlines()
    assert lost == "log_lines_lost count=1"
    assert line.endswith(" two")


def test_a_lone_surrogate_is_logged(out):
    make_logger(LogSettings(), out).info("odd", text="a\ud800")
    assert line_of(out)["text"] == "a\ud800"
