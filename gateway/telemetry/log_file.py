"""Appends log lines to a file, and follows its path when the file is rotated, deleted or cannot be opened for a while.

Each write looks whether the path is still the file that is open. If it is another one, as after the `create` of
logrotate, that is opened. While it is missing, lines go into the renamed file, since another is about to be made; after
`GRACE` it is created, and at once by `reopen` and where the file was deleted. Any number of processes append to one
file: a lock on it keeps their lines whole, and half a line that a full disk has taken is taken back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic

from gateway.command_errors import CannotRunError
from gateway.telemetry.line_lock import acquire
from gateway.telemetry.log_writer import DescriptorLines, takes_now

MODE = 0o640  # of a new file; the umask may take more
GRACE = 5.0  # seconds for which a path may be missing before its file is created
COMPLAIN_EVERY = 60.0  # seconds between two complaints of one process
STANDARD_ERROR = 2
_FLAGS = (
    os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
)  # a pipe without a reader fails at once
_LOST = "lines are lost, and counted, until it can"
_KEPT = "lines go on into the file that had this name"
_UNSURE = "its last lines may be lost"
_ADVICE = {
    errno.EACCES: "let this user write it and search its folder",
    errno.EISDIR: "name a file",
    errno.ENOENT: "create its folder",
    errno.ENXIO: "name a regular file",
    errno.EROFS: "name a file on a volume that can be written, or leave logs.file out",
}

Identity = tuple[int, int]  # device and inode


def complain_on_stderr(sentence: str) -> None:
    """Write a line to standard error, unless nothing takes it at the moment."""
    with suppress(OSError):
        if takes_now(STANDARD_ERROR):
            os.write(STANDARD_ERROR, f"flowise-gateway: {sentence}\n".encode(errors="backslashreplace"))


def check_log_file(path: Path | None) -> None:
    """Open the file as a log does, which creates it; None: there is none.

    Raises:
        CannotRunError: it cannot be opened, and what would be right.
    """
    try:
        if path is not None:
            os.close(_opened(path)[0])
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "mend that, or name another file")
        raise CannotRunError(f"The log file {path} cannot be opened ({error.strerror}): {advice}.") from error


class LogFile:
    """A `NamedStream` that appends to the file of a path; for one thread."""

    def __init__(
        self,
        path: Path,
        complain: Callable[[str], None] = complain_on_stderr,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """`complain`: gets a sentence when lines begin to be lost; `now`: monotonic seconds."""
        self._path = path
        self._complain = complain
        self._now = now
        self._lines: DescriptorLines | None = None  # of the file that is open
        self._identity: Identity = (0, 0)
        self._missing_since: float | None = None
        self._must_create = False
        self._complained: dict[str, float] = {}  # of what, and when
        self.whole_lines = 0

    def write(self, text: str) -> int:
        """Append all of it.

        Raises:
            OSError: the file cannot be opened, or its disk is full.
        """
        self.whole_lines = 0
        try:
            lines = self._follow()
            self._append(lines, text)
        except OSError as error:
            self._say("written", error, _LOST)
            raise
        return len(text)

    def reopen(self) -> None:
        """Take the file that is at the path by now; create it if there is none."""
        self._must_create = True
        try:
            self._follow()
        except OSError as error:
            self._say("opened", error, _LOST)

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        """Let go of the file, whatever becomes of it: the number of its descriptor may be that of another file now."""
        lines, self._lines = self._lines, None
        if lines is None:
            return
        try:
            os.close(lines.descriptor)
        except OSError as error:  # a network file system says only here that it did not take all
            self._say("closed", error, _UNSURE)

    def _follow(self) -> DescriptorLines:
        """The file of the path, opened if it is another one; the old one as long as there is no other.

        Raises:
            OSError: there is neither.
        """
        lines = self._lines
        try:
            found = _identity_of(self._path)
        except OSError:
            found = None  # to open it says why
        if lines is not None and found == self._identity:
            self._missing_since, self._must_create = None, False
            return lines
        if lines is not None and found is None and self._may_come_back(lines):
            return lines
        try:
            return self._open()
        except OSError as error:
            if lines is None or not _has_name(lines):
                raise
            self._say("opened", error, _KEPT)
            return lines

    def _may_come_back(self, lines: DescriptorLines) -> bool:
        """Whether to wait for another file at the path. What goes into a deleted one is lost, so not for that."""
        now = self._now()
        if self._missing_since is None:
            self._missing_since = now
        return not self._must_create and now - self._missing_since < GRACE and _has_name(lines)

    def _open(self) -> DescriptorLines:
        descriptor, identity = _opened(self._path)
        self.close()
        self._lines, self._identity = DescriptorLines(descriptor), identity
        self._missing_since, self._must_create = None, False
        return self._lines

    def _append(self, lines: DescriptorLines, text: str) -> None:
        is_locked = _lock(lines.descriptor)
        try:
            lines.write(text)
        except OSError:
            if is_locked:
                with suppress(OSError):
                    _take_back(lines)
            raise
        finally:
            self.whole_lines = lines.whole_lines
            if is_locked:
                fcntl.flock(lines.descriptor, fcntl.LOCK_UN)

    def _say(self, what: str, error: OSError, so: str) -> None:
        """Complain, of the same not more often than `COMPLAIN_EVERY`."""
        sentence = f"The log file {self._path} cannot be {what} ({error.strerror}): {so}."
        now, at = self._now(), self._complained.get(sentence)
        if at is None or now - at >= COMPLAIN_EVERY:
            self._complained[sentence] = now
            self._complain(sentence)


def _opened(path: Path) -> tuple[int, Identity]:
    """A descriptor of the file, and which file it is.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, _FLAGS, MODE)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise OSError(errno.ENXIO, "not a regular file")
    return descriptor, (found.st_dev, found.st_ino)


def _identity_of(path: Path) -> Identity | None:
    """Which file is at this path; None if there is none. Raises `OSError` if it cannot be found out."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _lock(descriptor: int) -> bool:
    """Lock the file; returns whether it is. Without it a write that is not cut by a full disk is whole as well."""
    try:
        return acquire(partial(fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB), descriptor)
    except OSError:  # a file system without locks
        return False


def _has_name(lines: DescriptorLines) -> bool:
    return os.fstat(lines.descriptor).st_nlink > 0


def _take_back(lines: DescriptorLines) -> None:
    """Remove the half line that the last write has left, if nothing stands behind it. Raises `OSError`."""
    descriptor = lines.descriptor
    end = os.lseek(descriptor, 0, os.SEEK_CUR)  # of what this process has appended last
    if lines.half_line and os.fstat(descriptor).st_size == end:
        os.ftruncate(descriptor, end - lines.half_line)
        lines.half_line = 0
