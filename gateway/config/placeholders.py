"""Placeholders inside values: `${NAME}`, `${NAME:-default}`, `${file:PATH}`, and `$${` for a literal `${`.

Works on text that was already parsed, so nothing from outside can become YAML; never on keys. What comes in
is never shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LARGEST_FILE = 64 * 1024
_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Environment:
    """Where placeholders are looked up; relative files are looked for in `folder`."""

    environ: Mapping[str, str]
    folder: Path


@dataclass(frozen=True, slots=True)
class Expanded:
    """The text with its placeholders replaced, and why some could not be."""

    text: str
    problems: tuple[str, ...]


def expand(text: str, outside: Environment) -> Expanded:
    """Replace every placeholder once; what comes in is not looked at again."""
    problems: list[str] = []

    def replacement(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        try:
            return _look_up(found[1], outside)
        except ValueError as error:
            problems.append(str(error))
            return ""

    return Expanded(_PLACEHOLDER.sub(replacement, text), tuple(problems))


def _look_up(inside: str | None, outside: Environment) -> str:
    """What one placeholder stands for; an empty variable counts as unset where a default is given.

    Raises:
        ValueError: why it stands for nothing.
    """
    if inside is not None and inside.startswith("file:"):
        return _content(inside.removeprefix("file:"), outside.folder)
    variable = _VARIABLE.fullmatch(inside or "")
    if variable is None:
        raise ValueError(
            "has a ${ that begins no placeholder: write ${NAME}, ${NAME:-default} or ${file:/path};"
            " $${ stands for the two letters themselves"
        )
    name, default = variable[1], variable[2]
    found = outside.environ.get(name)
    if default is not None:
        return found or default
    if found is None:
        raise ValueError(f"environment variable {name} is not set: set it, or write ${{{name}:-default}}")
    return found


def _content(name: str, folder: Path) -> str:
    """The text of a file without the line end at its end.

    Raises:
        ValueError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with (folder / name).open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"file {name!a} cannot be read ({error.strerror}): name a readable file") from None
    except ValueError:
        raise ValueError(f"file {name!a} cannot be read: a file name has no NUL") from None
    if len(content) > LARGEST_FILE:
        raise ValueError(f"file {name!a} is larger than 64KiB: name a file that holds only the value")
    try:
        return content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"file {name!a} is not UTF-8: save it as UTF-8 text") from None
