"""Reads a keys file: every mistake at once, with its line, and never a key or a hash in one.

A file that is missing or empty is right, and has no keys. Nothing is read from outside: a keys file has no
placeholders.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.auth.key_format import ID_PATTERN, redact_keys
from gateway.auth.keys_model import ApiKey, KeysFile
from gateway.config import Limit
from gateway.config.checks import check_limits
from gateway.config.problems import Mistakes, did_you_mean, join_path
from gateway.config.section import Section
from gateway.config.tree import Node, Scalar, ScalarKind
from gateway.config.yaml_reader import read_tree

_ID = re.compile(ID_PATTERN)


def check_keys(root: Node, mistakes: Mistakes) -> None:
    """Note every contradiction."""
    keys = root.at("keys")
    entries = [] if keys is None else keys.items
    _ids(entries, mistakes)
    by_name: dict[str, list[Node]] = {}
    for entry in entries:
        if text := entry.text_at("name"):
            by_name.setdefault(text, []).append(entry)
    for namesakes in by_name.values():
        _rotation(namesakes, mistakes)
    for entry in entries:
        _limits(entry, mistakes)


def _ids(entries: list[Node], mistakes: Mistakes) -> None:
    first: dict[str, int] = {}
    for entry in entries:
        if text := entry.text_at("id"):
            line, path = entry.place_of("id")
            if text in first:
                message = f"another key, in line {first[text]}, has it already: remove one of them"
                mistakes.add(line, path, message)
            first.setdefault(text, line)


def _rotation(namesakes: list[Node], mistakes: Mistakes) -> None:
    """Entries that share a name are one caller's keys: each but the newest says which one took its place."""
    ids = {entry.text_at("id") for entry in namesakes}
    newest = [entry for entry in namesakes if entry.at("replaced_by") is None]
    for entry in newest[1:]:
        line, path = entry.place_of("name")
        other, _ = newest[0].place_of("name")
        message = (
            f"another key, in line {other}, has it already: write another one, or replaced_by in the older"
        )
        mistakes.add(line, path, message)
    for entry in namesakes:
        successor = entry.text_at("replaced_by")
        if successor is None or not _ID.fullmatch(successor):
            continue
        line, path = entry.place_of("replaced_by")
        if successor not in ids - {entry.text_at("id")}:
            message = "names no other key of this name: write the id of the one that took its place, or leave it out"
            mistakes.add(line, path, message)
        elif not newest:
            mistakes.add(line, path, "goes in a circle: leave it out in the newest key of this name")


def _limits(entry: Node, mistakes: Mistakes) -> None:
    """A key's limits are those of a route, but for `by`."""
    limits = entry.at("limits")
    if limits is None:
        return
    check_limits(entry, mistakes)
    for limit in limits.items:
        if limit.at("by") is not None:
            line, path = limit.place_of("by")
            message = "says nothing here, as these count the key with all its sessions: leave it out"
            mistakes.add(line, path, message)


FileVersion = tuple[int, ...]
ABSENT: FileVersion = ()
LARGEST_FILE = 16 * 1024 * 1024  # bytes; revoked and expired keys keep their entries
_EXAMPLE = "config/keys.example.yaml shows how"


class KeysFileMistakes(Mistakes):
    """Mistakes that repeat no key and no hash, whatever was written where."""

    def add(self, line: int, key: str, message: str) -> None:
        """Note one mistake."""
        super().add(line, redact_keys(key), redact_keys(message))


def mark_of(path: Path) -> FileVersion:
    """What tells one state of a file from the next without reading it; `ABSENT` if it is not there.

    The time of the last change is part of it, so that an edit is seen that keeps size and modification time.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return (error.errno or 0,)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The entries of a keys file, in its order; none if it is missing or empty.

    Raises:
        ConfigError: with every mistake of the file at once.
    """
    mistakes = KeysFileMistakes(str(path))
    root = _tree(path, mistakes)
    entries: tuple[ApiKey, ...] = ()
    if root is not None:
        _refuse_placeholders(root, mistakes)
        entries = _typed(root, mistakes)
        check_keys(root, mistakes)
    mistakes.raise_if_any()
    return entries


def _tree(path: Path, mistakes: Mistakes) -> Node | None:
    """The tree of a file; None if it has nothing in it, or no mapping, which is then a mistake."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            mistakes.add(1, "", "this is no regular file: name one that is, or that is not there yet")
            return None
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        mistakes.add(1, "", f"the file cannot be read ({error.strerror}): let the gateway's user read it")
        return None
    begin = _begin(content) if len(content) <= LARGEST_FILE else None
    if isinstance(begin, yaml.StreamEndEvent):
        return None
    if begin is not None and not isinstance(begin, yaml.MappingStartEvent):
        line = begin.start_mark.line + 1 if begin.start_mark else 1
        mistakes.add(line, "", f"the file is no mapping: write `keys:` with a list below it; {_EXAMPLE}")
        return None
    return read_tree(path, {}, mistakes, LARGEST_FILE)


def _begin(content: bytes) -> yaml.Event | None:
    """The first event that says something, the end of the stream if none does; None: `read_tree` tells why."""
    silent = (yaml.StreamStartEvent, yaml.DocumentStartEvent, yaml.DocumentEndEvent)
    try:
        for event in yaml.parse(content.decode("utf-8-sig"), Loader=yaml.SafeLoader):
            is_nothing = isinstance(event, yaml.ScalarEvent) and not event.value and not event.style
            if not is_nothing and not isinstance(event, silent):
                return event
    except (yaml.YAMLError, ValueError, OverflowError):
        return None
    return None


def _refuse_placeholders(node: Node, mistakes: Mistakes) -> None:
    if isinstance(node.value, Scalar) and node.value.kind is ScalarKind.EXPANDED:
        mistakes.add(
            node.line, node.path, "holds a placeholder, and a keys file has none: write the value itself"
        )
    for below in (*node.entries.values(), *node.items):
        _refuse_placeholders(below, mistakes)


def _typed(root: Node, mistakes: Mistakes) -> tuple[ApiKey, ...]:
    try:
        return KeysFile.model_validate(root.plain()).keys
    except ValidationError as refused:
        for error in refused.errors(include_url=False, include_input=False):
            _note(error, root, mistakes)
    return ()


def _note(error: ErrorDetails, root: Node, mistakes: Mistakes) -> None:
    loc = error["loc"]
    node = root.nearest(loc)
    section = _section_at(loc)
    if node.is_broken or (error["type"] == "too_short" and node.items):
        return
    if error["type"] == "missing":
        example = (section.model_fields[str(loc[-1])].examples or [""])[0]
        message = f'is missing: write for example {loc[-1]}: "{example}"'
        mistakes.add(node.line, join_path(node.path, str(loc[-1])), message)
    elif error["type"] == "extra_forbidden":
        meant = did_you_mean(str(loc[-1]), section.model_fields.keys() - {"by"})
        mistakes.add(node.line, node.path, f"is not a key here: {meant}")
    else:
        mistakes.add(node.line, node.path, _message(error))


def _message(error: ErrorDetails) -> str:
    match error["type"]:
        case "value_error":
            return str(error["ctx"]["error"])
        case "too_short":
            return "has nothing in it: write at least one entry, or leave it out"
        case "tuple_type":
            return f"is no list: write a list, one entry per dash; {_EXAMPLE}"
    return f"is no mapping: write keys with values below it; {_EXAMPLE}"


def _section_at(loc: tuple[int | str, ...]) -> type[Section]:
    """The section that the last step of a place is a key of."""
    if "limits" in loc[:-1]:
        return Limit
    return ApiKey if loc[:1] == ("keys",) and len(loc) > 1 else KeysFile
