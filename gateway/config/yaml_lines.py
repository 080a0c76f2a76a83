"""Where a line of YAML belongs, by its indentation alone: for a text that the parser refuses (pure).

Lines are numbered from 0. Flow style over several lines is understood as far as it is indented like blocks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain

from msgspec import Struct
from msgspec.structs import replace

from gateway.config.problems import join_path

LOOKED_AT = (
    64 * 1024
)  # characters of a line; a search in more of them keeps the interpreter from other threads
_DASHES = re.compile(r"[ \t]*(?:-(?:[ ]+|$))*")
_KEY = re.compile(r"(?P<quote>[\"']?)(?P<key>[\w.-]+)(?P=quote)[ ]*(?:[:\uff1a\ufe55](?!//)|=)")
_OPENS = re.compile(r"(?:[:{\[]|: *[|>][-+0-9]*)$")


class _Start(Struct, frozen=True):
    """A dash or a key at the begin of a line; `key` is empty for a dash, `opens` is false before a value."""

    column: int
    key: str = ""
    opens: bool = True


def content(line: str) -> str:
    """A line without its comment; a # inside quotes is taken for one too. What is behind `LOOKED_AT` does not count."""
    return re.sub(r"(^|\s)#.*", "", line[:LOOKED_AT]).strip()


def indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def is_entry(line: str) -> bool:
    """Whether a line begins an entry of a list."""
    return re.match(r"-( |$)", content(line)) is not None


def opens_block(line: str) -> bool:
    """Whether the value of the line is in the lines below it."""
    return _OPENS.search(content(line)) is not None


def key_column(line: str) -> int:
    """Where the key of a line begins, behind the dash of a list entry."""
    found = _DASHES.match(line)
    return found.end() if found else 0


def last_content(lines: Sequence[str], number: int) -> int | None:
    """The last line with content before a line; None if there is none."""
    return next((n for n in range(min(number, len(lines)) - 1, -1, -1) if content(lines[n])), None)


def nearest_indentations(lines: Sequence[str], number: int) -> list[tuple[int, int]]:
    """The closest indentations that a line may have instead of its own, each with the last line that has it."""
    own = indent(lines[number])
    columns = {column: above for column, above in _open_columns(lines, number).items() if column != own}
    nearest = min((abs(column - own) for column in columns), default=0)
    return [(column, above) for column, above in columns.items() if abs(column - own) == nearest]


def _open_columns(lines: Sequence[str], number: int) -> dict[int, int]:
    """Where a key may begin in a line, or a dash if it has one, and the last line with that column.

    Only blocks that are still open before the line count.
    """
    wants_dash = is_entry(lines[number])
    lowest: float = math.inf
    columns: dict[int, int] = {}
    for above in range(number - 1, -1, -1):
        if lowest == 0:
            break
        for start in reversed(_starts(lines[above])):
            if start.column < lowest:
                lowest = start.column
                if bool(start.key) is not wants_dash:
                    columns[start.column] = above
    return columns


def path_at(lines: Sequence[str], number: int) -> str:
    """The path of the key in a line, or of the mapping or list that the line belongs to; empty at the top."""
    path = ""
    for step in reversed(list(_steps(lines, number))) if number < len(lines) else ():
        path = f"{path}[{step}]" if isinstance(step, int) else join_path(path, step)
    return path


def _steps(lines: Sequence[str], number: int) -> Iterator[str | int]:
    """The keys and indexes from a line up to the top."""
    column = _column(lines, number)
    own = _starts(" " * column + lines[number].lstrip())
    above = (start for n in range(number - 1, -1, -1) for start in reversed(_starts(lines[n])))
    level: float = math.inf if own else column
    index: int | None = None  # of the list entry at this level
    for start in chain((replace(start, opens=True) for start in reversed(own)), above):
        if level == 0 and index is None:
            return
        if index is not None and start.column == level and not start.key:
            index += 1
        elif start.column < level or (index is not None and start.column == level):
            level = start.column
            if index is not None and start.opens:
                yield index
            index = None if start.key else 0
            if start.key and start.opens:  # else the line below it has a wrong indentation
                yield start.key
    if index is not None:
        yield index


def _column(lines: Sequence[str], number: int) -> int:
    """The indentation of a line; if it has a tab or fits no line, what it should be."""
    line, before = lines[number], last_content(lines, number)
    own = indent(line)
    if before is None:
        return own
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return key_column(lines[before]) + opens_block(lines[before])
    if own in _open_columns(lines, number) or (opens_block(lines[before]) and own > indent(lines[before])):
        return own
    return next((column for column, _ in nearest_indentations(lines, number)), own)


def _starts(line: str) -> list[_Start]:
    """The dashes and the key with which a line begins, from left to right."""
    if not content(line):
        return []
    end = key_column(line)
    dashes = [_Start(at) for at, letter in enumerate(line[:end]) if letter == "-"]
    found = _KEY.match(line, end)
    return [*dashes, _Start(end, found["key"], opens_block(line))] if found else dashes
