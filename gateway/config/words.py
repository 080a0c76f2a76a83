"""How a mistake quotes what was written and what may have been meant (pure)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

LONGEST_QUOTE = 60
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


def quoted(text: str) -> str:
    """The text in double quotes on one line: what cannot be printed is escaped, what is long is cut."""
    if len(text) > LONGEST_QUOTE:
        text = text[: LONGEST_QUOTE - 1] + "…"
    return f'"{"".join(_printable(letter) for letter in text)}"'


def _printable(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")


def step(path: str, key: str) -> str:
    """The path of a key inside the mapping at `path`."""
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{quoted(key)}]"
    return f"{path}.{key}" if path else key


def instead(word: str, known: Collection[str]) -> str:
    """What was probably meant, else everything that may be meant."""
    by_fold = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), by_fold, n=1)
    if close:
        return f"did you mean {by_fold[close[0]]}?"
    return f"write one of {', '.join(sorted(known))}"
