"""The chatflows of a Flowise as a table or as JSON (pure)."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from gateway.flowise.chatflows import Chatflow
from gateway.printable import printable

_HEADS = ("ID", "NAME", "KIND", "STREAMING", "KEY")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns that are wide enough; no blanks at the end of a line."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def kind_of(flow: Chatflow) -> str:
    return f"{flow.kind} ({flow.trigger})" if flow.trigger else flow.kind


def as_table(chatflows: Sequence[Chatflow], streaming: Collection[str]) -> str:
    """One line for each. `streaming`: the ids of those that stream. KEY: `own` if it needs an API key of its own."""
    rows = [
        (
            flow.id,
            printable(flow.name),
            kind_of(flow),
            "yes" if flow.id in streaming else "no",
            "own" if flow.key_id else "-",
        )
        for flow in chatflows
    ]
    return table([_HEADS, *rows])


def as_json(chatflows: Sequence[Chatflow], streaming: Collection[str]) -> str:
    """A list of objects. `trigger`: form, webhook, schedule or empty. `key`: whether it needs one of its own."""
    rows = [
        {
            "id": flow.id,
            "name": flow.name,
            "kind": flow.kind,
            "trigger": flow.trigger,
            "streaming": flow.id in streaming,
            "key": bool(flow.key_id),
        }
        for flow in chatflows
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False)


def numbered(chatflows: Sequence[Chatflow]) -> str:
    """The list to choose from, counted from 1."""
    rows = [
        (f"{number:>4}", printable(flow.name), kind_of(flow), "own key" if flow.key_id else "")
        for number, flow in enumerate(chatflows, 1)
    ]
    return table(rows)
