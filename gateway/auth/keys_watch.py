"""Keeps the keyring as the keys file says, while the gateway runs.

A changed file is read once two looks half a second apart have seen the same, so that an editor which empties
the file and then writes it never revokes everybody. A file with mistakes, or one that has vanished, changes
nothing and is told in one log line. What touches the disk happens in a thread.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.aio import Tasks
from gateway.auth.keyring import Keyring
from gateway.auth.keys_file import ABSENT, FileVersion, mark_of, read_keys
from gateway.auth.keys_model import ApiKey
from gateway.config import ConfigError, Mistake
from gateway.telemetry.logs import Logger

LOOK_EVERY = 0.45  # seconds; every other tick of the coarse timer
MOST_TOLD = 20  # mistakes in one log line
READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH


@dataclass(frozen=True, slots=True)
class _Reading:
    """One look into the file; `mark` is its state when it had been read."""

    entries: tuple[ApiKey, ...]
    mistakes: tuple[Mistake, ...]
    mark: FileVersion
    is_exposed: bool


class KeysWatch:
    """Fills a keyring from a file, at the start and after each change.

    Attributes:
        on_change: each is called, on the loop, after the keyring was filled anew.
        entries: what the keyring was last filled with.
    """

    def __init__(
        self,
        path: Path,
        keyring: Keyring,
        tasks: Tasks,
        logger: Logger,
        on_read: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`on_read` is told each time whether the file was right."""
        self.entries: tuple[ApiKey, ...] = ()
        self._path = path
        self._keyring = keyring
        self._tasks = tasks
        self._logger = logger
        self._on_read = on_read
        self.on_change: list[Callable[[], None]] = []
        self._settled: FileVersion = ABSENT  # what was read, or told to be broken
        self._seen: FileVersion | None = None  # something else, seen once
        self._next_look = 0.0
        self._is_looking = False
        self._has_warned = False

    async def start(self, known: tuple[ApiKey, ...] | None = None) -> None:
        """Read the file as it is now. `known`: what somebody read before us who still runs; kept if it is broken now.

        Raises:
            ConfigError: it has mistakes, and nothing is known from before.
        """
        self._settled = await asyncio.to_thread(mark_of, self._path)
        reading = await asyncio.to_thread(_read, self._path)
        is_gone = bool(known) and self._settled == ABSENT
        if known is not None and (reading.mistakes or is_gone):
            self._fill(known)
            self._tell_broken([str(mistake) for mistake in reading.mistakes] or [self._gone])
        elif reading.mistakes:
            raise ConfigError(reading.mistakes)
        else:
            self._take(reading)

    def tick(self, now: float) -> None:
        """Coarse timer, with the monotonic time: look at the file now and then."""
        if now >= self._next_look and not self._is_looking:
            self._next_look = now + LOOK_EVERY
            self._is_looking = True
            self._tasks.start(self._look(), "keys_watch")

    async def _look(self) -> None:
        try:
            mark = await asyncio.to_thread(mark_of, self._path)
            if mark == self._settled:
                self._seen = None
            elif mark != self._seen:
                self._seen = mark
            elif mark == ABSENT:
                self._settle(mark)
                self._tell_broken([self._gone])
            else:
                await self._reload(mark)
        finally:
            self._is_looking = False

    async def _reload(self, mark: FileVersion) -> None:
        reading = await asyncio.to_thread(_read, self._path)
        if reading.mark != mark:  # changed again under our eyes
            self._seen = reading.mark
            return
        self._settle(mark)
        if reading.mistakes:
            self._tell_broken([str(mistake) for mistake in reading.mistakes])
            return
        self._take(reading)
        for tell in self.on_change:
            tell()

    def _settle(self, mark: FileVersion) -> None:
        self._settled, self._seen = mark, None

    def _take(self, reading: _Reading) -> None:
        self._on_read(True)
        self._fill(reading.entries)
        self._logger.info("keys_loaded", count=len(self._keyring))
        if reading.is_exposed and not self._has_warned:
            self._has_warned = True
            message = "others can read the hashes of the keys: chmod 600"
            self._logger.warning("keys_file_exposed", file=str(self._path), message=message)

    def _fill(self, entries: tuple[ApiKey, ...]) -> None:
        self.entries = entries
        self._keyring.replace(entries)

    @property
    def _gone(self) -> str:
        return f"{self._path}: the file is gone: put it back, or restart without keys"

    def _tell_broken(self, mistakes: list[str]) -> None:
        self._on_read(False)
        self._logger.error(
            "keys_file_broken",
            message="the keys stay as they were",
            count=len(mistakes),
            mistakes=mistakes[:MOST_TOLD],
        )


def _read(path: Path) -> _Reading:
    entries: tuple[ApiKey, ...] = ()
    mistakes: list[Mistake] = []
    try:
        entries = read_keys(path)
    except ConfigError as error:
        mistakes = error.mistakes
    try:
        is_exposed = bool(path.stat().st_mode & READABLE_BY_OTHERS)
    except OSError:
        is_exposed = False
    return _Reading(entries, tuple(mistakes), mark_of(path), is_exposed)
