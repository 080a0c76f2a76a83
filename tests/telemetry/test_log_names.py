"""`logs.fields`: JSON lines without some fields, and with other names for some."""

from __future__ import annotations

import io
import json

from gateway.config import LogFieldSettings, LogSettings
from gateway.telemetry.log_writer import LogWriter
from gateway.telemetry.logs import LogOutput, make_logger
from tests.telemetry.test_log_writer import Stream, waits

FIELDS = LogFieldSettings(
    drop=["client"], rename={"time": "@timestamp", "level": "severity", "event": "message", "message": "text"}
)


def test_every_line_has_the_new_names_and_not_the_dropped_fields():
    out = io.StringIO()
    logger = make_logger(LogSettings(fields=FIELDS), out)
    logger.info("request", client="10.0.0.1", status=200)
    logger.warning("signal_ignored", message="This signal does nothing.")
    request, other = map(json.loads, out.getvalue().splitlines())
    assert list(request) == ["status", "message", "severity", "@timestamp"]
    assert (request["message"], request["severity"]) == ("request", "info")
    assert (other["message"], other["text"]) == ("signal_ignored", "This signal does nothing.")


def test_the_line_about_lost_lines_has_them_too():
    stream = Stream()
    stream.is_full = True
    with LogWriter(stream) as writer:
        logger = make_logger(LogSettings(fields=FIELDS), writer)
        logger.info("request")
        waits(lambda: writer.lost == 1)
        stream.is_full = False
        logger.info("request")
    assert json.loads(stream.lines[0]) == {"message": "log_lines_lost", "severity": "warning", "count": 1}


def test_lines_for_reading_stay_as_they_are():
    out = io.StringIO()
    make_logger(LogSettings(fields=FIELDS, format="console"), out).info("listening", client="c")
    assert out.getvalue().endswith("listening client=c\n")


def test_without_the_key_nothing_is_added_to_the_work_of_a_line():
    def steps(settings):
        return len(LogOutput(settings, io.StringIO())._processors)

    assert steps(LogSettings(fields=FIELDS)) == steps(LogSettings()) + 1
