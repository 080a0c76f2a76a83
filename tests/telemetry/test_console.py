"""Lines for reading: what a request, an event and a traceback look like, and what a terminal never gets to obey."""

from __future__ import annotations

import pytest

from gateway.telemetry.console import ConsoleRenderer, wants_colors

REQUEST = {
    "time": "14:03:12",
    "level": "info",
    "event": "request",
    "request_id": "r-1",
    "route": "support",
    "endpoint": "prediction",
    "caller": "key:backend",
    "status": 200,
    "outcome": "ok",
    "duration_s": 1.2345,
    "ttft_s": 0.0123,
    "waited_s": None,
    "tokens_out": 52,
    "abort": None,
    "limited_by": None,
}


def shown(line, *, has_colors=False):
    return ConsoleRenderer(has_colors=has_colors)(None, "info", line)


def request(**fields):
    return shown(REQUEST | fields)


def event(name="listening", level="info", **fields):
    return shown({"time": "14:03:12", "level": level, "event": name, **fields})


def test_a_request_is_one_line_of_columns():
    assert request() == (
        "14:03:12 200 ok             support          key:backend          first 12 ms    52 tokens    1.23 s"
    )


def test_what_is_not_known_is_a_dash_and_columns_stay_in_their_places():
    unknown = dict.fromkeys(("route", "caller", "ttft_s", "tokens_out"))
    line = request(**unknown, duration_s=0.0004)
    assert (
        line
        == "14:03:12 200 ok             -                -                    -              -            0 ms"
    )
    places = [request(endpoint="ping", **fields).index("endpoint=") for fields in ({}, unknown)]
    assert places[0] == places[1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 ms"), (0.0126, "13 ms"), (0.9994, "999 ms"), (1.0, "1.00 s"), (75.5, "75.50 s")],
)
def test_durations_are_milliseconds_below_a_second(seconds, text):
    assert request(duration_s=seconds).endswith(f" {text}")


def test_a_request_that_went_wrong_says_why_and_which_it_was():
    line = request(
        status=429, outcome="refused", error="rate_limited: Wait 3 s.", limited_by=["burst", "day"]
    )
    assert line.startswith("14:03:12 429 refused        support ")
    assert line.endswith(' error="rate_limited: Wait 3 s." limited_by=burst,day request_id=r-1')


def test_other_endpoints_waits_aborts_and_workers_are_named():
    fields = {
        "endpoint": "feedback",
        "waited_s": 0.25,
        "abort": "ran_on",
        "worker": 2,
        "dropped": ["history"],
    }
    assert request(**fields).endswith(
        " endpoint=feedback abort=ran_on dropped=history worker=2 waited_s=0.25"
    )
    assert "waited" not in request(waited_s=0.05)


def test_an_event_is_its_name_its_message_and_its_fields():
    line = event("no_secret", "warning", message="There is no secret.", file="a b", empty="", count=3)
    assert line == '14:03:12 no_secret There is no secret. file="a b" empty="" count=3'


def test_a_traceback_follows_its_line():
    line = event("bug", "error", error="ValueError()", exception="Traceback:\n  File x\nValueError: \x1b[2J")
    assert line.splitlines() == [
        "14:03:12 bug error=ValueError()",
        "Traceback:",
        "  File x",
        "ValueError: \\x1b[2J",
    ]


@pytest.mark.parametrize("odd", ["\x1b[2J", "\x9b31m", "a\nb", "a\rb", "\u202eabc", "\ud800"])
@pytest.mark.parametrize("field", ["route", "caller", "error", "prompt", "message"])
def test_no_text_of_a_client_is_obeyed_by_a_terminal(odd, field):
    for line in (request(**{field: odd}), event(**{field: odd}), event(level="error", exception="x" + odd)):
        assert all(part.isprintable() for part in line.split("\n"))
    assert "\n" not in request(**{field: odd}) + event(**{field: odd})


@pytest.mark.parametrize(
    ("outcome", "color"),
    [("ok", 32), ("refused", 33), ("client_closed", 33), ("failed", 31), ("truncated", 31)],
)
def test_the_colour_is_that_of_the_outcome(outcome, color):
    line = shown(REQUEST | {"outcome": outcome}, has_colors=True)
    assert f"\x1b[{color}m200 {outcome}" in line
    assert line.count("\x1b[0m") == line.count("\x1b[") - line.count("\x1b[0m")


@pytest.mark.parametrize(
    ("environ", "has_colors"),
    [
        ({}, True),
        ({"NO_COLOR": ""}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
    ],
)
def test_the_environment_may_turn_colours_off(environ, has_colors):
    assert wants_colors(environ) is has_colors
