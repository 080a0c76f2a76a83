"""Findings of the doctor, as a table or as JSON, and the exit status that follows from them (pure)."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from gateway.printable import printable

Level = Literal["ok", "warning", "failed"]
MARKS = {"ok": "✓", "warning": "!", "failed": "✗"}
PLAIN_MARKS = {"ok": "ok", "warning": "!", "failed": "X"}
HIDDEN = "***"


class Finding(Struct, frozen=True):
    """One line of the report.

    Attributes:
        check: what was looked at, like `version`.
        subject: of which upstream, route or file; empty: of this machine.
        sentence: what is there; if something is wrong, also what would be right.
    """

    level: Level
    check: str
    subject: str
    sentence: str


def ok(check: str, subject: str, sentence: str) -> Finding:
    return Finding("ok", check, subject, sentence)


def warning(check: str, subject: str, sentence: str) -> Finding:
    return Finding("warning", check, subject, sentence)


def failed(check: str, subject: str, sentence: str) -> Finding:
    return Finding("failed", check, subject, sentence)


def without(secrets: Collection[str], findings: Sequence[Finding]) -> list[Finding]:
    """The findings without these texts, wherever they may have come from; empty ones do not count."""
    return [
        replace(finding, subject=_hide(finding.subject, secrets), sentence=_hide(finding.sentence, secrets))
        for finding in findings
    ]


def _hide(text: str, secrets: Collection[str]) -> str:
    for secret in sorted(filter(None, secrets), key=len, reverse=True):  # one may be the beginning of another
        text = text.replace(secret, HIDDEN)
    return text


def status(findings: Sequence[Finding], *, is_strict: bool) -> int:
    """The exit status: 1 if something failed, with `is_strict` also after a warning; else 0."""
    wrong = ("failed", "warning") if is_strict else ("failed",)
    return int(any(finding.level in wrong for finding in findings))


def as_table(findings: Sequence[Finding], *, is_plain: bool = False) -> str:
    """One line for each. `is_plain`: for a terminal that has ASCII only."""
    marks = PLAIN_MARKS if is_plain else MARKS
    rows = [
        (marks[each.level], each.check, printable(each.subject), printable(each.sentence))
        for each in findings
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join((*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]))
        for row in rows
    )


def as_json(findings: Sequence[Finding]) -> str:
    """An object with the list `findings`; each has `level`, `check`, `subject` and `sentence`."""
    rows = [
        {"level": each.level, "check": each.check, "subject": each.subject, "sentence": each.sentence}
        for each in findings
    ]
    return json.dumps({"findings": rows}, indent=2, ensure_ascii=False)
