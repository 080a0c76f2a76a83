"""What every log line must be: not too long, and without characters that make it look like something else (pure).

A line break of Unicode or a mark that reverses the direction of text would let a client forge what an operator reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

MAX_LINE = 16 * 1024  # bytes; a log collector cuts longer ones anywhere, and then they are no JSON

# DEL and C1 controls; line separators; what is invisible, or changes the direction of text
_DECEPTIVE = re.compile(
    "[\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
# characters of a text and items of a list that stay, at each attempt
_ATTEMPTS = ((4096, 100), (1024, 20), (256, 10), (64, 3), (16, 1))


def new_names(drop: Collection[str], rename: Mapping[str, str]) -> dict[str, str]:
    """For `renamed`; empty if every field stays as it is."""
    return {**rename, **dict.fromkeys(drop, "")}


def renamed(line: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The line with other names for some fields, and without those whose new name is empty."""
    return {new: value for name, value in line.items() if (new := names.get(name, name))}


def escaped(text: str) -> str:
    """JSON text with every character that deceives a reader as its escape; the value is the same."""
    if text.isascii() and "\x7f" not in text:
        return text
    return _DECEPTIVE.sub(lambda found: _escape(found[0]), text)


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def size_of(text: str) -> int:
    """The size of a line in bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def within_bound(line: Mapping[str, Any], render: Callable[[Mapping[str, Any]], str]) -> str:
    """The rendered line; of one that is too long the long texts and lists are cut, and say so."""
    text = render(line)
    if len(text) * 4 <= MAX_LINE or size_of(text) <= MAX_LINE:
        return text
    for characters, items in _ATTEMPTS:
        text = render(shortened(line, characters, items))
        if size_of(text) <= MAX_LINE:
            break
    return text


def shortened(line: Mapping[str, Any], characters: int = MAX_LINE, items: int = 100) -> dict[str, Any]:
    """The line with a bounded number of characters of each text and of items of each list."""
    return {name: _cut(value, characters, items) for name, value in line.items()}


def _cut(value: Any, characters: int, items: int) -> Any:
    """The beginning of a value, and of a text the end as well: the end of a traceback says what went wrong."""
    if isinstance(value, str) and len(value) > characters:
        end = characters // 4
        cut = len(value) - characters
        return f"{value[: characters - end]} … ({cut} characters are cut here) … {value[-end:]}"
    if isinstance(value, list | tuple):
        more = [f"({len(value) - items} more are cut here)"] if len(value) > items else []
        return [*(_cut(item, characters, items) for item in value[:items]), *more]
    if isinstance(value, dict):
        return {str(name)[:characters]: _cut(value[name], characters, items) for name in list(value)[:items]}
    return value
