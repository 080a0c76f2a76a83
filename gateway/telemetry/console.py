"""Log lines for reading: aligned columns for a request, the event and its fields for everything else (pure).

Texts of clients cannot move the cursor or change colours: what is not printable is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.printable import printable

NOTHING = "-"
DIM, RED, GREEN, YELLOW, CYAN = "2", "31", "32", "33", "36"
_LEVEL_COLORS = {"debug": DIM, "info": CYAN, "warning": YELLOW, "error": RED}
_OUTCOME_COLORS = {
    "ok": GREEN,
    "client_closed": YELLOW,
    "refused": YELLOW,
    "empty": YELLOW,
}  # the others are red
# fields of a request that are shown where they have something to say
_ALSO = ("error", "limited_by", "abort", "dropped", "worker", "prompt")
_WAITED = 0.1  # seconds from which the wait for a body or a conversation is shown


def wants_colors(environ: Mapping[str, str]) -> bool:
    """Whether a terminal may get colours: NO_COLOR (https://no-color.org) and TERM say so."""
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


class ConsoleRenderer:
    """The last processor of a logger: from the fields of a line to its text."""

    def __init__(self, *, has_colors: bool) -> None:
        self._has_colors = has_colors

    def __call__(self, _logger: object, _method: str, line: Mapping[str, Any]) -> str:
        """The text of one line; a traceback follows it. `line` has time, level and event."""
        text = self._request(line) if line["event"] == "request" else self._event(line)
        traceback = str(line.get("exception", "")).splitlines()
        return "\n".join((f"{self._color(DIM, str(line['time']))} {text}", *map(printable, traceback)))

    def _request(self, line: Mapping[str, Any]) -> str:
        outcome = str(line["outcome"])
        tokens = line["tokens_out"]
        columns = (
            self._color(_OUTCOME_COLORS.get(outcome, RED), f"{line['status']} {outcome:<14}"),
            f"{_column(line['route']):<16}",
            f"{_column(line['caller']):<20}",
            f"{'first ' + _duration(line['ttft_s']) if line['ttft_s'] is not None else NOTHING:<14}",
            f"{NOTHING if tokens is None else f'{tokens} tokens':<12}",
            f"{_duration(line['duration_s']):<8}",
        )
        shown = {name: line[name] for name in _ALSO if line.get(name)}
        if line["endpoint"] != "prediction":
            shown = {"endpoint": line["endpoint"], **shown}
        if (line["waited_s"] or 0) >= _WAITED:
            shown["waited_s"] = round(line["waited_s"], 2)
        if outcome != "ok":
            shown["request_id"] = line["request_id"]
        return " ".join((*columns, self._fields(shown))).rstrip()

    def _event(self, line: Mapping[str, Any]) -> str:
        apart = {"time", "level", "event", "message", "exception"}
        said = [self._color(_LEVEL_COLORS.get(str(line["level"]), RED), str(line["event"]))]
        if "message" in line:
            said.append(printable(str(line["message"])))
        said.append(self._fields({name: value for name, value in line.items() if name not in apart}))
        return " ".join(part for part in said if part)

    def _fields(self, fields: Mapping[str, Any]) -> str:
        return " ".join(f"{self._color(DIM, name + '=')}{_value(value)}" for name, value in fields.items())

    def _color(self, color: str, text: str) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if self._has_colors else text


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _column(value: object) -> str:
    return NOTHING if value is None else printable(str(value))


def _value(value: object) -> str:
    """As it is if it is one plain word, else in quotes."""
    if isinstance(value, list | tuple):
        return ",".join(_value(each) for each in value)
    text = str(value)
    is_word = text and not set(text) & set(' "=,')
    return printable(text if is_word else json.dumps(text, ensure_ascii=False))
