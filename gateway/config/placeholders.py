"""Placeholders inside values: `${NAME}`, `${NAME:-default}`, `${file:PATH}`, and `$${` for a literal `${`.

They are replaced after YAML was parsed, so a variable cannot add YAML; keys have none. No message repeats a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

MOST_PROBLEMS = 20  # of one text
LARGEST_FILE = 64 * 1024
_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class Environment(Struct, frozen=True):
    """Where placeholders are looked up; relative file names start in `folder`."""

    variables: Mapping[str, str]
    folder: Path


class _AbsentError(ValueError):
    """The placeholder is right, but this machine has no value for it."""


class _UnsetError(_AbsentError):
    """A variable is not set, and there is no default."""

    def __init__(self, name: str) -> None:
        super().__init__(f"environment variable {name} is not set")
        self.name = name


class Expanded(Struct, frozen=True):
    """The text with its placeholders replaced.

    Attributes:
        text: without the placeholders that could not be replaced.
        problems: the reason for each of them.
        is_absent_only: whether all of them are right, and only have no value on this machine.
    """

    text: str
    problems: tuple[str, ...]
    is_absent_only: bool


def set_it_or_empty(name: str, *, is_whole: bool) -> str:
    """The advice for a variable that is not set, where an empty value is a right one."""
    empty = f"${{{name}:-}}"
    written = f'"{empty}"' if is_whole else empty
    return f"set it, or write {written} if the value may be empty"


def expand(text: str, environment: Environment, advice: str = "") -> Expanded:
    """Replace every placeholder once; a replacement is not expanded again.

    `advice`: for a variable that is not set; by default that the value may be empty.
    """
    problems: list[ValueError] = []

    def replacement(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        if len(problems) >= MOST_PROBLEMS:
            return ""
        try:
            return _look_up(found[1], environment)
        except _UnsetError as error:
            remedy = advice or set_it_or_empty(error.name, is_whole=found[0] == text)
            problems.append(_AbsentError(f"{error}: {remedy}"))
            return ""
        except ValueError as error:
            problems.append(error)
            return ""

    expanded = _PLACEHOLDER.sub(replacement, text)
    is_absent_only = all(isinstance(problem, _AbsentError) for problem in problems)
    return Expanded(expanded, tuple(map(str, problems)), is_absent_only)


def _look_up(inside: str | None, environment: Environment) -> str:
    """The value of one placeholder; an empty variable counts as unset where a default is given.

    Args:
        inside: what is between the braces.
        environment: where it is looked up.

    Raises:
        ValueError: not a placeholder, or one without a value.
    """
    if inside is not None and inside.startswith("file:"):
        return _content(inside.removeprefix("file:"), environment.folder)
    parts = _VARIABLE.fullmatch(inside or "")
    if parts is None:
        raise ValueError(
            "has a ${ that starts no placeholder: write ${NAME}, ${NAME:-DEFAULT} or ${file:PATH},"
            " or $${ for a literal ${"
        )
    name, default = parts[1], parts[2]
    value = environment.variables.get(name)
    if default is not None:
        return value or default
    if value is None:
        raise _UnsetError(name)
    return value


def _content(name: str, folder: Path) -> str:
    """The text of a file without the line ends at its end.

    Raises:
        ValueError: the file cannot be read, is too large, or is not UTF-8.
    """
    try:
        with (folder / name).open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        message = f"file {name!a} cannot be read ({error.strerror}): name a readable file"
        raise _AbsentError(message) from None
    except ValueError:
        raise ValueError(f"file {name!a} cannot be read: write a name without a NUL character") from None
    if len(content) > LARGEST_FILE:
        raise ValueError(f"file {name!a} is larger than 64KiB: name a file that has only the value")
    try:
        return content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"file {name!a} is not UTF-8: save it as UTF-8 text") from None
