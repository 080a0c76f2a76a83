"""Reads a keys file. Every mistake is reported at once, with its line, and without keys and hashes.

A missing or empty file has no keys. Unlike the configuration, a keys file has no placeholders.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

import yaml
from msgspec.structs import replace
from pydantic import ValidationError

from gateway.auth.key_format import ID_PATTERN, redact_keys
from gateway.auth.keys_model import ApiKey, KeysFile
from gateway.config import ConfigError, Mistake
from gateway.config.checks import check_limits
from gateway.config.placeholders import Environment
from gateway.config.problems import Mistakes
from gateway.config.tree import Node, Scalar, ScalarKind, dismantle
from gateway.config.validation import note_errors
from gateway.config.yaml_reader import parse_tree

_ID = re.compile(ID_PATTERN)
_EXPOSED = stat.S_IRWXO | stat.S_IWGRP  # a group may read the file: it can be that of the gateway's user
EXPOSED_ADVICE = "Other users can read the hashes of the keys, or change them. Run chmod g-w,o-rwx"


def is_exposed(path: Path) -> bool:
    """Whether users other than the owner and the group may read or change a keys file; raises `OSError`."""
    return bool(path.stat().st_mode & _EXPOSED)


def check_keys(root: Node, mistakes: Mistakes) -> None:
    """Note contradictions between entries."""
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
                message = f"the key in line {first[text]} has the same id: remove one of them"
                mistakes.add(line, path, message)
            first.setdefault(text, line)


def _rotation(namesakes: list[Node], mistakes: Mistakes) -> None:
    """Keys of the same name belong to one caller: each but the newest must name its successor."""
    ids = {entry.text_at("id") for entry in namesakes}
    newest = [entry for entry in namesakes if entry.at("replaced_by") is None]
    for entry in newest[1:]:
        line, path = entry.place_of("name")
        other, _ = newest[0].place_of("name")
        message = (
            f"the key in line {other} has the same name: write another one, or replaced_by in the older key"
        )
        mistakes.add(line, path, message)
    for entry in namesakes:
        successor = entry.text_at("replaced_by")
        if successor is None or not _ID.fullmatch(successor):
            continue
        line, path = entry.place_of("replaced_by")
        if successor not in ids or successor == entry.text_at("id"):
            message = (
                "is not the id of another key of this name: write the id of its successor, or leave it out"
            )
            mistakes.add(line, path, message)
        elif not newest:
            mistakes.add(line, path, "makes a circle: leave it out in the newest key of this name")


def _limits(entry: Node, mistakes: Mistakes) -> None:
    """Limits of a key are checked as those of a route, but have no `by`."""
    limits = entry.at("limits")
    if limits is None:
        return
    check_limits(entry, mistakes)
    for limit in limits.items:
        if limit.at("by") is not None:
            line, path = limit.place_of("by")
            message = (
                "has no effect here, as the limits of a key count it with all its sessions: leave it out"
            )
            mistakes.add(line, path, message)


class UnreadableError(ConfigError):
    """The file could not be read just now (too many open files, a failing disk); tried again, it may be."""


FileVersion = tuple[int, ...]
ABSENT: FileVersion = ()
_FORBIDDEN = (errno.EACCES, errno.EPERM)
_LET_READ = "let the gateway's user read it, with chown or with --owner of the keys commands"
_TRIED_AGAIN = "it will be when the system can; see to its disk, memory and open files"
LARGEST_FILE = (
    2 * 1024 * 1024
)  # bytes: 6,000 keys with limits to 13,000 without; revoked ones keep their entries
_EXAMPLE = "`flowise-gateway keys create` writes such a file"


class KeysFileMistakes(Mistakes):
    """Mistakes without keys and hashes, even where one was written in the wrong place."""

    def note(self, mistake: Mistake) -> None:
        key, message = redact_keys(mistake.key), redact_keys(mistake.message)
        super().note(replace(mistake, key=key, message=message))


def file_version(path: Path) -> FileVersion:
    """Changes whenever the file does; `ABSENT` if there is none.

    Includes `ctime`: an edit may keep size and modification time.

    Raises:
        OSError: it cannot be found out now.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return ABSENT
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file, in its order; none if it is missing or empty.

    Raises:
        ConfigError: with every mistake of the file.
        UnreadableError: the system cannot read it.
    """
    return parse_keys(path, read_content(path))


def read_content(path: Path) -> bytes | None:
    """The content of a keys file, of a larger one a byte more than `LARGEST_FILE`; None if it is missing.

    Raises:
        ConfigError: it is no regular file.
        UnreadableError: the system cannot read it.
    """
    try:
        _check_kind(path, path.stat())
        with open(path, "rb", opener=_open_at_once) as file:
            _check_kind(path, os.fstat(file.fileno()))  # it may be another one by now
            return file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableError([unreadable(path, error)]) from error


def _check_kind(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        message = "this is not a regular file: name one, or a file that does not exist yet"
        raise ConfigError([Mistake(str(path), 1, "", message)])


def _open_at_once(name: str, flags: int) -> int:
    """A pipe without a writer would not open."""
    return os.open(name, flags | os.O_NONBLOCK)


def parse_keys(path: Path, content: bytes | None) -> tuple[ApiKey, ...]:
    """The keys in the content of the file at this path, as `read_keys`.

    Raises:
        ConfigError: with every mistake.
    """
    mistakes = KeysFileMistakes(str(path))
    root = _tree(path, content, mistakes)
    entries: tuple[ApiKey, ...] = ()
    if root is not None:
        _refuse_placeholders(root, mistakes)
        entries = _typed(root, mistakes)
        check_keys(root, mistakes)
        dismantle(root)
    mistakes.raise_if_any()
    return entries


def _tree(path: Path, content: bytes | None, mistakes: Mistakes) -> Node | None:
    """The tree of a file; None if it is missing, empty or not a mapping, of which the last is noted."""
    if content is None:
        return None
    begin = _begin(content) if len(content) <= LARGEST_FILE else None
    if isinstance(begin, yaml.StreamEndEvent):
        return None
    if begin is not None and not isinstance(begin, yaml.MappingStartEvent):
        line = begin.start_mark.line + 1 if begin.start_mark else 1
        mistakes.add(line, "", f"the file is not a mapping: write `keys:` with a list below it; {_EXAMPLE}")
        return None
    return parse_tree(content, Environment({}, path.parent), mistakes, LARGEST_FILE)


def unreadable(path: Path, error: OSError) -> Mistake:
    """The mistake that the system cannot read this file."""
    reason = error.strerror or type(error).__name__
    advice = _LET_READ if error.errno in _FORBIDDEN else _TRIED_AGAIN
    return Mistake(str(path), 1, "", f"the file cannot be read ({reason}): {advice}")


def _begin(content: bytes) -> yaml.Event | None:
    """The first event with content, or the end of the stream; None if `read_tree` is to note a mistake."""
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    without_content = (yaml.StreamStartEvent, yaml.DocumentStartEvent, yaml.DocumentEndEvent)
    try:
        for event in yaml.parse(content.decode("utf-8-sig"), Loader=loader):
            is_empty = isinstance(event, yaml.ScalarEvent) and not event.value and not event.style
            if not is_empty and not isinstance(event, without_content):
                return event
    except (yaml.YAMLError, ValueError, OverflowError):
        return None
    return None


def _refuse_placeholders(node: Node, mistakes: Mistakes) -> None:
    if isinstance(node.value, Scalar) and node.value.kind is ScalarKind.EXPANDED:
        mistakes.add(
            node.line,
            node.path,
            "has a placeholder, which a keys file does not support: write the value itself",
        )
    for below in (*node.entries.values(), *node.items):
        _refuse_placeholders(below, mistakes)


def _sharing(keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
    """The same keys; equal routes and limits are one object, or the garbage collector would have five times as many."""
    seen: dict[object, object] = {}
    found = []
    for key in keys:
        parts = {name: value for name in ("routes", "limits") if (value := getattr(key, name))}
        shared = {name: seen.setdefault(value, value) for name, value in parts.items()}
        found.append(key.model_copy(update=shared) if shared else key)
    return tuple(found)


def _typed(root: Node, mistakes: Mistakes) -> tuple[ApiKey, ...]:
    try:
        return _sharing(KeysFile.model_validate(root.plain()).keys)
    except ValidationError as refused:
        note_errors(refused, root, KeysFile, mistakes, hidden=frozenset({"by"}))
    return ()
