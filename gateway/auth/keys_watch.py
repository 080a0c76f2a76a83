"""Keeps the keyring up to date with the keys file while the gateway runs.

A changed file is read once it has been the same for half a second: an editor that truncates the file before it writes
must not revoke every key. A file with mistakes, or that is gone, changes nothing and is logged once. A version counts
as read only after it was: a file that the system cannot read now (too many open files, a failing disk) is read again at
every check, or the revocation in it would be lost for good. For the same reason its content is compared once more a
while after each read: a file system with coarse times may hide a change that came right behind it. All access to the
disk happens in a thread of its own, so that no other work delays a revocation.
"""

from __future__ import annotations

import errno
import gc
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from msgspec import Struct

from gateway.aio import Tasks, WorkThread
from gateway.auth.keyring import Keyring
from gateway.auth.keys_file import (
    ABSENT,
    EXPOSED_ADVICE,
    FileVersion,
    UnreadableError,
    file_version,
    is_exposed,
    parse_keys,
    read_content,
    unreadable,
)
from gateway.auth.keys_model import ApiKey
from gateway.config import ConfigError, Mistake
from gateway.telemetry.logs import Logger

CHECK_EVERY = 0.45  # seconds; every other tick of the coarse timer
MOST_LOGGED = 20  # mistakes in one log line
HANGING_AFTER = (
    10.0  # seconds in which the disk does not answer, or the file changes all the time; then it is logged
)
CONFIRM_AFTER = 2.0  # seconds after a read: more than the coarsest times of a file system
LOG_AGAIN = 60.0  # seconds between two lines for a file that stays unreadable


class _Snapshot(Struct, frozen=True):
    """The content of the file, and its version before and after the read."""

    keys: tuple[ApiKey, ...]
    mistakes: tuple[Mistake, ...]
    before: FileVersion
    after: FileVersion
    digest: bytes
    is_exposed: bool


class KeysWatch:
    """Fills a keyring from a file, at the start and after each change.

    Attributes:
        keys: the current content of the keyring.
        on_change: called on the loop after a change.
    """

    def __init__(
        self,
        path: Path,
        keyring: Keyring,
        tasks: Tasks,
        logger: Logger,
        on_read: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`on_read`: called after each read, with whether the file had no mistakes."""
        self.keys: tuple[ApiKey, ...] = ()
        self._path = path
        self._keyring = keyring
        self._tasks = tasks
        self._logger = logger
        self._thread = WorkThread("keys", 1)  # one check at a time
        self._on_read = on_read
        self.on_change: list[Callable[[], None]] = []
        self._loaded: FileVersion | None = None  # the version that was read or logged as broken, if any
        self._seen: FileVersion | None = None  # another version, seen once
        self._digest = b""
        self._confirm_at: float | None = None  # None: not planned yet
        self._changing_since: float | None = None
        self._next_check = self._log_unreadable_at = 0.0
        self._is_checking = False
        self._has_warned = False

    async def start(self, known: tuple[ApiKey, ...] | None = None) -> None:
        """Read the file.

        Args:
            known: the keys of the parent process, used if the file is broken now.

        Raises:
            ConfigError: the file has mistakes, and no keys are known.
        """
        try:
            snapshot = await self._thread.run(_read, self._path)
        except UnreadableError as error:
            if known is None:
                raise
            self._fill(known)
            self._log_broken(map(str, error.mistakes))  # `_loaded` stays None: the first check reads it
            return
        self._set_loaded(snapshot.before, snapshot.digest)
        is_gone = bool(known) and self._loaded == ABSENT
        if known is not None and (snapshot.mistakes or is_gone):
            self._fill(known)
            self._log_broken([str(mistake) for mistake in snapshot.mistakes] or [self._gone])
        elif snapshot.mistakes:
            raise ConfigError(snapshot.mistakes)
        else:
            self._apply(snapshot)

    def fill(self, keyring: Keyring) -> None:
        """Keep this keyring up to date from now on, in the place of the one before."""
        self._keyring = keyring
        keyring.replace(self.keys)

    async def close(self) -> None:
        await self._thread.close()

    def tick(self, now: float) -> None:
        """Check the file if it is time; `now` in monotonic seconds."""
        if self._is_checking:
            if now >= self._next_check + HANGING_AFTER:
                hanging = OSError(errno.ETIMEDOUT, f"no answer for {HANGING_AFTER:g} s")
                self._note_unreadable(hanging, now)
        elif now >= self._next_check:
            self._next_check = now + CHECK_EVERY
            self._is_checking = True
            self._tasks.start(self._check(now), "keys_watch")

    async def _check(self, now: float) -> None:
        try:
            version = await self._thread.run(file_version, self._path)
            if version == self._loaded:
                self._seen = self._changing_since = None
                await self._confirm(now)
            elif version != self._seen:
                self._note_change(version, now)
            elif version == ABSENT:
                self._set_loaded(version, b"")
                self._log_broken([self._gone])
            else:
                await self._reload(version)
            self._log_unreadable_at = 0.0
        except (OSError, MemoryError, UnreadableError) as error:
            self._note_unreadable(error, now)
        finally:
            self._is_checking = False

    async def _confirm(self, now: float) -> None:
        """Compare the content, once; another one is read as any change."""
        if self._confirm_at is None:
            self._confirm_at = now + CONFIRM_AFTER
        elif now >= self._confirm_at:
            self._confirm_at = math.inf
            if await self._thread.run(_digest_of, self._path) != self._digest:
                self._loaded = None

    def _note_change(self, version: FileVersion, now: float) -> None:
        self._seen = version
        if self._changing_since is None:
            self._changing_since = now
        elif now >= self._changing_since + HANGING_AFTER:
            raise OSError(errno.EAGAIN, f"it has changed at every check for {HANGING_AFTER:g} s")

    def _note_unreadable(self, error: OSError | MemoryError | UnreadableError, now: float) -> None:
        """Nothing is marked as read, so the next check tries again."""
        if now >= self._log_unreadable_at:
            self._log_unreadable_at = now + LOG_AGAIN
            if not isinstance(error, UnreadableError):
                cause = error if isinstance(error, OSError) else OSError(errno.ENOMEM, "Out of memory")
                error = UnreadableError([unreadable(self._path, cause)])
            self._log_broken(map(str, error.mistakes))

    async def _reload(self, version: FileVersion) -> None:
        snapshot = await self._thread.run(_read, self._path)
        if snapshot.after != version:  # changed during the read
            self._seen = snapshot.after
            return
        self._set_loaded(version, snapshot.digest)
        if snapshot.mistakes:
            self._log_broken([str(mistake) for mistake in snapshot.mistakes])
            return
        self._apply(snapshot)
        for call in self.on_change:
            call()

    def _set_loaded(self, version: FileVersion, digest: bytes) -> None:
        self._loaded, self._digest = version, digest
        self._seen = self._changing_since = self._confirm_at = None

    def _apply(self, snapshot: _Snapshot) -> None:
        self._on_read(True)
        self._fill(snapshot.keys)
        self._logger.info("keys_loaded", count=len(self._keyring))
        if snapshot.is_exposed and not self._has_warned:
            self._has_warned = True
            message = f"{EXPOSED_ADVICE} {self._path}."
            self._logger.warning("keys_file_exposed", file=str(self._path), message=message)

    def _fill(self, keys: tuple[ApiKey, ...]) -> None:
        self.keys = keys
        self._keyring.replace(keys)

    @property
    def _gone(self) -> str:
        return f"{self._path}: the file is gone: put it back, or restart without keys"

    def _log_broken(self, found: Iterable[str]) -> None:
        mistakes = list(found)
        self._on_read(False)
        self._logger.error(
            "keys_file_broken",
            message="the keys stay as they were",
            count=len(mistakes),
            mistakes=mistakes[:MOST_LOGGED],
        )


def _read(path: Path) -> _Snapshot:
    """Read the file.

    Raises:
        UnreadableError: the system cannot read it now.
    """
    keys: tuple[ApiKey, ...] = ()
    mistakes: list[Mistake] = []
    content: bytes | None = None
    try:
        before = file_version(path)
        try:
            content = read_content(path)
            with _collector_paused():
                keys = parse_keys(path, content)
        except UnreadableError:
            raise
        except ConfigError as error:
            mistakes = error.mistakes
        after = file_version(path)
        exposed = after != ABSENT and is_exposed(path)
    except OSError as error:
        raise UnreadableError([unreadable(path, error)]) from error
    return _Snapshot(keys, tuple(mistakes), before, after, _digest(content), exposed)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """The tree of 10,000 keys has 200,000 objects without a cycle, for which the collector would stop all threads."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _digest_of(path: Path) -> bytes:
    """The digest of a file, as `_read` has it.

    Raises:
        UnreadableError: the system cannot read it now.
    """
    try:
        return _digest(read_content(path))
    except UnreadableError:
        raise
    except ConfigError:  # a folder, for one
        return _digest(None)


def _digest(content: bytes | None) -> bytes:
    return b"" if content is None else sha256(content).digest()
