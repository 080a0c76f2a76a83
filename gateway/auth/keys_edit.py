"""Changes a keys file on disk: one command at a time, whole or not at all.

The new file is written beside the old one, read again, and takes its place in one step, so that a reader sees
either. A symbolic link stays one: what it leads to is replaced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.auth.keys_file import Mark, mark_of, read_keys
from gateway.auth.keys_model import KeyEntry
from gateway.config import ConfigError
from gateway.identity.keys_draft import Draft

PATIENCE = 10.0  # seconds that one command waits for another
_ADVICE = {
    errno.EACCES: "run this as the owner of its folder",
    errno.EBUSY: "a file that is mounted by itself cannot be replaced: mount its folder",
    errno.ENOENT: "make its folder first",
    errno.ENOSPC: "make room on its disk",
    errno.EPERM: "run this as the owner of its folder",
    errno.EROFS: "change it where this file system comes from",
}
_ELSE = "mend that and run this again"


class KeysFileError(Exception):
    """The keys file cannot be changed; the sentence says why. It is as it was."""


class KeysStore:
    """One keys file. `path` is how the user knows it; `patience` how many seconds another command may take."""

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self._path = path
        self._patience = patience
        self._target = Path(os.path.realpath(path))

    def entries(self) -> tuple[KeyEntry, ...]:
        """What stands in the file now.

        Raises:
            ConfigError: it has mistakes.
        """
        return read_keys(self._path)

    @contextmanager
    def editing(self) -> Iterator[Draft]:
        """A draft of the file, which takes its place at the end of the block if nothing was raised in it.

        Raises:
            ConfigError: the file has mistakes.
            KeysFileError: it cannot be changed.
        """
        try:
            with self._locked():
                mark = mark_of(self._target)
                entries = self.entries()  # first: what has mistakes is not looked at further
                before = self._text()
                draft = Draft(before, entries)
                yield draft
                if draft.text != before:
                    self._replace(draft, mark)
        except OSError as error:
            raise self._refusal(f"{error.strerror}; {_ADVICE.get(error.errno or 0, _ELSE)}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone with the file, by a lock file beside it, which stays there: to remove one is a race."""
        lock = os.open(f"{self._target}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            self._keep_owner(lock)
            if not _lock(lock, self._patience):
                raise self._refusal(f"another command has held its lock for {self._patience:g} s; try again")
            yield
        finally:
            os.close(lock)

    def _text(self) -> str:
        try:
            with self._target.open(encoding="utf-8", newline="") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def _replace(self, draft: Draft, mark: Mark) -> None:
        folder = self._target.parent
        descriptor, name = tempfile.mkstemp(prefix=f".{self._target.name}.", dir=folder)  # mode 0600
        new = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                if not self._keep_owner(descriptor):
                    raise self._refusal("it belongs to another user: run this as that user, or as root")
                file.write(draft.text)
                file.flush()
                os.fsync(descriptor)
            self._prove(new, draft)
            if mark_of(self._target) != mark:
                raise self._refusal("somebody has just changed it: run this again")
            new.replace(self._target)
        finally:
            new.unlink(missing_ok=True)
        _sync(folder)

    def _prove(self, new: Path, draft: Draft) -> None:
        """Never put a file into place that says something else than was meant."""
        try:
            problem = "" if read_keys(new) == draft.entries else "it would say something else"
        except ConfigError as error:
            problem = error.mistakes[0].message
        if problem:
            form = "write one key per dash and one value per line, as in config/keys.example.yaml"
            raise self._refusal(f"its layout does not allow it ({problem}): {form}")

    def _keep_owner(self, descriptor: int) -> bool:
        """Give a new file the owner of the old one; tells whether it has that owner."""
        new = os.fstat(descriptor)
        try:
            old = self._target.stat()
        except FileNotFoundError:
            return True
        if (old.st_uid, old.st_gid) == (new.st_uid, new.st_gid):
            return True
        try:
            os.fchown(descriptor, old.st_uid, old.st_gid)
        except PermissionError:
            return old.st_uid == new.st_uid
        return True

    def _refusal(self, reason: str) -> KeysFileError:
        return KeysFileError(f"{self._path} is as it was and cannot be changed: {reason}")


def _lock(descriptor: int, seconds: float) -> bool:
    """Lock a file against all others; tells whether it came to that in time."""
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
    """Make the change survive a power cut; it is in effect either way, so that a refusal here is no failure."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
