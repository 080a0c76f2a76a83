"""Changes a keys file on disk: one command at a time, and atomically.

The new file is written beside the old one, read back, and renamed over it, so that readers see one or the other. If the
path is a symbolic link, its target is replaced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml
from msgspec.structs import replace

from gateway.auth.keys_file import ABSENT, FileVersion, file_version, read_keys
from gateway.auth.keys_model import ApiKey, format_moment
from gateway.auth.keys_owner import OWNER_ONLY, Owner, Permissions, permissions_for
from gateway.command_errors import CommandError
from gateway.config import ConfigError, Limit
from gateway.config.tree import ScalarKind, plain_scalar
from gateway.config.values import format_duration

HEADER = """\
# API keys of Flowise Gateway: hashes only, never a key. Edit this file with `flowise-gateway keys` or by hand, also
# while the gateway runs: it applies a change within 2 s, and keeps its keys while the file has a mistake.
"""
_COMMENT = re.compile(r"[ \t]*(#.*)?")
_SAFE = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")


class KeysFileEditor:
    """Edits the text of a keys file, so that comments and layout stay.

    Attributes:
        entries: the keys after the edits, in the order of the file.
        text: the whole file after the edits; empty if there is none.
    """

    def __init__(self, text: str, entries: Sequence[ApiKey]) -> None:
        self.text = text
        self.entries = tuple(entries)

    def add(self, entry: ApiKey) -> None:
        """Add an entry after the last one."""
        root = _composed(self.text)
        if not self.entries:
            self.text = _without_content(self.text) + "keys:\n" + _entry(entry, indent=2)
        else:
            keys = _value(root, "keys")
            at = _line_end(self.text, _end(keys.value[-1]))
            self._insert(at, _entry(entry, keys.start_mark.column))
        self.entries = (*self.entries, entry)

    def set(self, key_id: str, **values: str | float) -> None:
        """Set values of an entry; a float is a time in seconds since the epoch."""
        for key, value in values.items():
            self._set(key_id, key, format_moment(value) if isinstance(value, float) else _scalar(value))
        self.entries = tuple(
            entry.model_copy(update=values) if entry.id == key_id else entry for entry in self.entries
        )

    def _set(self, key_id: str, key: str, written: str) -> None:
        node = self._entry_node(key_id)
        old = next((value for name, value in node.value if name.value == key), None)
        if old is not None:
            self.text = self.text[: old.start_mark.index] + written + self.text[old.end_mark.index :]
        elif node.flow_style:
            self._insert(node.end_mark.index - 1, f", {key}: {written}")
        else:
            at = _line_end(self.text, _end(node))
            self._insert(at, f"{' ' * node.start_mark.column}{key}: {written}\n")

    def _insert(self, at: int, text: str) -> None:
        before = self.text[:at]
        is_within_line = text.endswith("\n") and before and not before.endswith("\n")
        self.text = before + ("\n" if is_within_line else "") + text + self.text[at:]

    def _entry_node(self, key_id: str) -> yaml.MappingNode:
        root = _composed(self.text)
        entries: list[yaml.MappingNode] = _value(root, "keys").value
        return next(entry for entry in entries if _value(entry, "id").value == key_id)


def _composed(text: str) -> yaml.Node | None:
    """The nodes of a file with their places. libyaml takes a second for 5,000 keys, Python eight."""
    has_mark = text.startswith("\ufeff")  # which libyaml does not count
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ and not has_mark else yaml.SafeLoader
    root: yaml.Node | None = yaml.compose(text, Loader=loader)
    return root


def _value(mapping: yaml.Node | None, key: str) -> yaml.Node:
    pairs: list[tuple[yaml.Node, yaml.Node]] = mapping.value if mapping else []
    return next(value for name, value in pairs if name.value == key)


def _end(node: yaml.Node) -> int:
    """The end of the last value: a block's own end lies after the comments that follow it."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    return int(node.end_mark.index)


def _line_end(text: str, index: int) -> int:
    """The start of the next line."""
    return text.find("\n", index) + 1 or len(text)


def _without_content(text: str) -> str:
    """The comments of a file without entries; the header for a new file."""
    if not text.strip():
        return HEADER
    return "".join(f"{line}\n" for line in text.splitlines() if _COMMENT.fullmatch(line))


def _entry(entry: ApiKey, indent: int) -> str:
    lines = [f"{key}: {value}" for key, value in _pairs(entry)]
    return "".join(f"{' ' * indent}{'  ' if number else '- '}{line}\n" for number, line in enumerate(lines))


def _pairs(entry: ApiKey) -> Iterator[tuple[str, str]]:
    yield "id", _scalar(entry.id)
    yield "name", _scalar(entry.name)
    yield "hash", entry.hash
    yield "created", format_moment(entry.created)
    if entry.expires is not None:
        yield "expires", format_moment(entry.expires)
    if entry.routes:
        yield "routes", f"[{', '.join(map(_scalar, entry.routes))}]"
    if entry.limits:
        yield "limits", f"[{', '.join(map(_limit, entry.limits))}]"


def _limit(limit: Limit) -> str:
    written = [f"name: {_scalar(limit.name)}"]
    for key in ("requests", "tokens", "concurrent", "per", "burst", "reserve"):
        if key in limit.model_fields_set:
            value = getattr(limit, key)
            written.append(f"{key}: {format_duration(value) if key == 'per' else value}")
    return "{" + ", ".join(written) + "}"


def _scalar(text: str) -> str:
    """The text plain where YAML reads it as text, else in quotes; names and ids need no escapes."""
    is_plain = _SAFE.fullmatch(text) and plain_scalar(text).kind is ScalarKind.TEXT
    return text if is_plain else f'"{text}"'


LOCK_TIMEOUT = 10.0  # seconds that one command waits for another
_ADVICE = {
    errno.EACCES: "run this as the owner of its folder",
    errno.EBUSY: "a single mounted file cannot be replaced: mount its folder",
    errno.ENOENT: "create its folder first",
    errno.ENOSPC: "free space on its disk",
    errno.EPERM: "run this as the owner of its folder",
    errno.EROFS: "this file system is read-only: change the file at its source",
}
_ELSE = "fix that and run this again"
_OWNED = "it belongs to another user: run this as that user, or as root"
_GIVEN = "only root can give it away: run this as root, or without --owner"


class KeysFileError(CommandError):
    """The keys file cannot be changed and is as it was; the text says why."""


class KeysStore:
    """A keys file on disk, which one command at a time edits."""

    def __init__(self, path: Path, lock_timeout: float = LOCK_TIMEOUT, owner: Owner | None = None) -> None:
        """`lock_timeout`: seconds to wait for another command. `owner`: gets the file with the next change."""
        self._path = path
        self._lock_timeout = lock_timeout
        self._owner = owner
        self._target = Path(os.path.realpath(path))

    def entries(self) -> tuple[ApiKey, ...]:
        """The keys in the file.

        Raises:
            ConfigError: it has mistakes.
        """
        return read_keys(self._path)

    @contextmanager
    def editing(self) -> Iterator[KeysFileEditor]:
        """An editor, whose text replaces the file at the end of the block if nothing was raised in it.

        Raises:
            ConfigError: the file has mistakes.
            KeysFileError: it cannot be changed.
        """
        try:
            permissions = permissions_for(self._target, self._owner)
            with self._locked(permissions):
                version = file_version(self._target)
                entries = self.entries()  # first: a file with mistakes is not edited
                before = self._text()
                editor = KeysFileEditor(before, entries)
                yield editor
                if editor.text != before or (self._owner is not None and version != ABSENT):
                    self._replace(editor, version, permissions)
        except OSError as error:
            raise self._error(f"{error.strerror}; {_ADVICE.get(error.errno or 0, _ELSE)}") from error

    @contextmanager
    def _locked(self, permissions: Permissions) -> Iterator[None]:
        """Hold the lock file beside the file. It is never removed: that would be a race."""
        lock = os.open(f"{self._target}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            replace(permissions, mode=OWNER_ONLY).give(lock)
            if not _lock(lock, self._lock_timeout):
                raise self._error(
                    f"another command has held its lock for {self._lock_timeout:g} s; try again"
                )
            yield
        finally:
            os.close(lock)

    def _text(self) -> str:
        try:
            with self._target.open(encoding="utf-8", newline="") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def _replace(self, editor: KeysFileEditor, version: FileVersion, permissions: Permissions) -> None:
        folder = self._target.parent
        descriptor, name = tempfile.mkstemp(prefix=f".{self._target.name}.", dir=folder)  # mode 0600
        new = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                if not permissions.give(descriptor):
                    raise self._error(_GIVEN if self._owner else _OWNED)
                file.write(editor.text)
                file.flush()
                os.fsync(descriptor)
            self._check_written(new, editor)
            if file_version(self._target) != version:
                raise self._error("it was changed at the same time: run this again")
            new.replace(self._target)
        finally:
            new.unlink(missing_ok=True)
        _sync(folder)

    def _check_written(self, new: Path, editor: KeysFileEditor) -> None:
        """Read the new file back: editing the text of an unusual layout may go wrong."""
        try:
            problem = "" if read_keys(new) == editor.entries else "it would be read differently"
        except ConfigError as error:
            problem = error.mistakes[0].message
        if problem:
            form = "write one key per dash and one value per line, as `keys create` writes it"
            raise self._error(f"its layout does not allow it ({problem}): {form}")

    def _error(self, reason: str) -> KeysFileError:
        return KeysFileError(f"{self._path} is as it was and cannot be changed: {reason}")


def _lock(descriptor: int, seconds: float) -> bool:
    """Lock a file; returns whether that succeeded in time."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        is_locked = threading.Event()

        def wait() -> None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            is_locked.set()

        threading.Thread(target=wait, daemon=True).start()
        return is_locked.wait(seconds)
    return True


def _sync(folder: Path) -> None:
    """Make the change survive a power cut. It is in effect either way, so that an error here is not a failure."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
