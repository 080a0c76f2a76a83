"""Which chatflows are meant: by name or id on the command line, by number on a terminal (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.config.problems import did_you_mean, quote
from gateway.flowise.chatflows import Chatflow

_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")


def by_name(chatflows: Sequence[Chatflow], wanted: Sequence[str]) -> list[Chatflow]:
    """The chatflows with these names or ids, each once, in the order in which they were wanted.

    Raises:
        ValueError: one does not exist, is not unique, or answers no predictions; the text is the sentence.
    """
    return list(dict.fromkeys(_one(chatflows, name) for name in wanted))


def _one(chatflows: Sequence[Chatflow], name: str) -> Chatflow:
    found = [flow for flow in chatflows if flow.id == name.lower()]
    found = found or [flow for flow in chatflows if flow.name == name]
    if not found:
        meant = did_you_mean(name, [flow.name for flow in chatflows])
        raise ValueError(f"--flow: there is no chatflow {quote(name)}: {meant}")
    if len(found) > 1:
        ids = " or ".join(flow.id for flow in found)
        raise ValueError(f"--flow: {quote(name)} is the name of several chatflows: write the id, {ids}")
    if not found[0].answers_predictions:
        what = f"is started by a {found[0].trigger} and answers no predictions: leave it out"
        raise ValueError(f"--flow: {quote(name)} {what}")
    return found[0]


def by_number(chatflows: Sequence[Chatflow], answer: str) -> list[Chatflow]:
    """The chatflows of an answer like `1,3-5` or `all`, counted from 1, in their order.

    Raises:
        ValueError: the answer is something else; the text is the sentence.
    """
    if answer.strip().lower() == "all":
        return list(chatflows)
    numbers: set[int] = set()
    for part in answer.replace(",", " ").split():
        found = _RANGE.fullmatch(part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= first <= last <= len(chatflows):
            raise ValueError(f"{quote(part)} is none of them: write numbers from 1 to {len(chatflows)}")
        numbers.update(range(first, last + 1))
    if not numbers:
        raise ValueError("Nothing is chosen: write numbers like 1,3-5, or all")
    return [flow for number, flow in enumerate(chatflows, 1) if number in numbers]
