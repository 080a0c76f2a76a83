"""Text for a terminal: what it would obey in place of showing it is escaped (pure)."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""The text on one line: a line end becomes `\n`, a control character like `\x1b`, a lone surrogate `\ud800`."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )
