"""Unix sockets of the public port: files that are opened, replaced when no process listens there, and removed.

A gateway locks the folder before it looks at a file there and replaces or removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from gateway.config import UnixAddress
from gateway.telemetry.line_lock import acquire

BACKLOG = 4096


class SocketFile:
    """The file of a socket that this process has opened, or got from a predecessor; removed by `remove`."""

    def __init__(self, path: str) -> None:
        """Raises `OSError`: there is no such file."""
        self._path = path
        self._identity = _identity(path)

    def remove(self) -> None:
        """Remove it, unless another gateway has put its own there. What forbids it does not matter any more."""
        with contextlib.suppress(OSError), _locked(self._path):
            if _identity(self._path) == self._identity:
                Path(self._path).unlink()


def open_socket_file(address: UnixAddress, mode: int) -> tuple[socket.socket, SocketFile]:
    """A listening socket with these permissions; blocks up to a second if another gateway starts in this folder.

    Raises:
        OSError: the folder is not there or not writable, or another process listens (EADDRINUSE).
    """
    path = address.path
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        with _locked(path):
            _remove_stale(path)
            bound.bind(path)
            Path(path).chmod(mode)  # before it listens, so that only those connect that may
            bound.listen(BACKLOG)
            return bound, SocketFile(path)
    except OSError:
        bound.close()
        raise


def files_of(sockets: Sequence[socket.socket]) -> list[SocketFile]:
    """The files of those that are Unix sockets and have one."""
    found = []
    for one in sockets:
        if one.family == socket.AF_UNIX:
            with contextlib.suppress(OSError):  # removed by somebody
                found.append(SocketFile(one.getsockname()))
    return found


def _remove_stale(path: str) -> None:
    """Remove a socket on which no process listens, as a process leaves one that was killed.

    Raises:
        OSError: somebody listens, or it is a file of another kind.
    """
    try:
        kind = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        found = probe.connect_ex(path)
    if found != errno.ECONNREFUSED:
        number = found if found in (errno.EACCES, errno.EPERM) else errno.EADDRINUSE
        raise OSError(number, os.strerror(number))
    Path(path).unlink()


def _identity(path: str) -> tuple[int, int]:
    found = Path(path).lstat()
    return found.st_dev, found.st_ino


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold the folder of a path.

    Goes on without a lock where there are none, where this process may not read the folder, and after a second: any
    process that may read it, as /tmp, could hold it for ever.
    """
    try:
        folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            acquire(partial(fcntl.flock, folder, fcntl.LOCK_EX | fcntl.LOCK_NB), folder)
        yield
    finally:
        os.close(folder)
