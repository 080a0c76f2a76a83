"""The keyring of a process, and the keys file that fills it: another file may take the place of the first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.aio import Tasks
from gateway.auth.keyring import Keyring
from gateway.auth.keys_model import ApiKey
from gateway.auth.keys_watch import KeysWatch
from gateway.telemetry.logs import Logger


class WatchedKeys:
    """Open from `start` to `close`."""

    def __init__(
        self,
        file: Path | None,
        tasks: Tasks,
        logger: Logger,
        on_read: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`file`: None: there are no keys. `on_read`: as for `KeysWatch`."""
        self.keyring = Keyring()
        self._file = file
        self._tasks = tasks
        self._logger = logger
        self._on_read = on_read
        self._on_change: Callable[[], None] = lambda: None
        self._watch = self._watch_of(file, self.keyring)

    @property
    def entries(self) -> tuple[ApiKey, ...] | None:
        """Those of the last valid file; None if none is configured."""
        return None if self._watch is None else self._watch.keys

    async def start(
        self, on_change: Callable[[], None] = lambda: None, known: tuple[ApiKey, ...] | None = None
    ) -> None:
        """Read the file. `on_change`: called after each change of the keys. `known`: as for `KeysWatch.start`.

        Raises:
            ConfigError: it has mistakes.
        """
        self._on_change = on_change
        if self._watch is not None:
            self._watch.on_change.append(on_change)
            await self._watch.start(known)

    async def prepare(self, file: Path | None, known: tuple[ApiKey, ...] | None = None) -> KeysWatch | None:
        """Read another file; None if it is the current one, or none is configured. `known`: as for `start`.

        Raises:
            ConfigError: it has mistakes.
        """
        watch = None if file == self._file else self._watch_of(file, Keyring())
        if watch is not None:
            await watch.start(known)
        return watch

    def adopt(self, file: Path | None, watch: KeysWatch | None) -> None:
        """Follow this file from now on, if it is another one. `watch`: from `prepare`."""
        if file == self._file:
            return
        if self._watch is not None:
            self._tasks.start(self._watch.close(), "keys file")
        self._file, self._watch = file, watch
        self.keyring.replace(())
        if watch is not None:
            watch.on_change.append(self._on_change)
            watch.fill(self.keyring)
        self._on_change()

    def tick(self, now: float) -> None:
        """Check the file if it is time; `now` in monotonic seconds."""
        if self._watch is not None:
            self._watch.tick(now)

    async def close(self) -> None:
        if self._watch is not None:
            await self._watch.close()

    def _watch_of(self, file: Path | None, keyring: Keyring) -> KeysWatch | None:
        if file is None:
            return None
        return KeysWatch(file, keyring, self._tasks, self._logger, self._on_read)
