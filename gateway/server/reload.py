"""Reads the configuration again, on SIGHUP or when its file has changed, and lets a valid one be served.

A file is read once it has been the same for two looks, half a second apart, so that one that is being written is not
taken for the whole. All of it is checked before anything changes; with one mistake everything stays as it was. One
reload runs at a time; requests that come meanwhile are one more reload after it.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from gateway.admission.factory import check_store
from gateway.aio import Tasks, WorkThread
from gateway.auth.keys_file import FileVersion, file_version
from gateway.command_errors import CannotRunError
from gateway.config import Config, ConfigError, Mistake, Reading, usable
from gateway.config.changes import Change, change
from gateway.config.shown import fingerprint, shown
from gateway.server.service_manager import Systemd
from gateway.telemetry.log_file import check_log_file
from gateway.telemetry.logs import Logger
from gateway.telemetry.trace_export import check_traces

LOOK_EVERY = 0.45  # seconds; every other tick of the coarse timer
MOST_LOOKS = 20  # at a file that is another one each time
MOST_LOGGED = 200  # mistakes; what waits for the log is bounded
_RESTART = (
    "these keys cannot change while the gateway runs: restart it to apply them; everything else is applied"
)


class CannotApplyError(Exception):
    """A valid configuration cannot be served; the message says why. Nothing has changed."""


class Source(Struct, frozen=True):
    """Where the configuration came from.

    Attributes:
        name: the file, or what stands in its place.
        fixed: why it cannot be read again, as a sentence; empty if it can.
        path: the file.
        version: of the file, from before it was first read.
        read: reads it again; in a thread.
    """

    name: str
    fixed: str = ""
    path: Path = Path()
    version: FileVersion = ()
    read: Callable[[], Reading] = lambda: Reading(None, None, (), (), ())


FIXED = Source("fixed", "This configuration was not read from a file: there is nothing to read again.")


class Served(Protocol):
    """What serves the configuration: this process, or its workers."""

    async def apply(self, config: Config) -> None:
        """Serve this one from now on, as a whole.

        Raises:
            ConfigError: a file that it names has mistakes.
            CannotApplyError: it cannot be served.
        """

    def count_reload(self, *, is_valid: bool) -> None:
        """Count one that was applied or refused."""

    @property
    def is_admin_local(self) -> bool:
        """Whether only this machine reaches the admin port."""


class Reloads:
    """From `open` to `close`; what is requested before is done then. `tick` is for the coarse timer.

    Attributes:
        config: what is served.
    """

    def __init__(
        self, source: Source, config: Config, served: Served, logger: Logger, manager: Systemd | None = None
    ) -> None:
        """`manager`: the service manager, which waits for the end of a reload that was requested."""
        self.config = config
        self._manager = manager or Systemd.none()
        self._source = source
        self._served = served
        self._tasks = Tasks(self._on_bug)  # of its own: a bug here ends neither a worker nor the gateway
        self._logger = logger
        self._thread = WorkThread("configuration file", 1)
        self._needs_restart: tuple[str, ...] = ()
        self._loaded_at = time()
        self._refused_at: float | None = None  # the last one, if it was refused
        self._refused = ""
        self._loaded = source.version
        self._seen: FileVersion | None = None  # another version, seen once
        self._looks = 0  # at ever other versions
        self._next_look = 0.0  # monotonic seconds
        self._is_requested = self._is_looking = False
        self._is_open = self._is_closed = False

    def open(self) -> None:
        self._is_open = True
        if self.config.server.watch and self._source.fixed:
            self._logger.warning(
                "reload_ignored", message=f"server.watch has no effect. {self._source.fixed}"
            )
        if self._is_requested:  # meanwhile
            self._manager.reloading()

    async def close(self) -> None:
        """Begin no reload any more; first the one that is under way ends, which would still want the thread."""
        self.stop()
        await self._tasks.join(0)
        await self._thread.close()

    def stop(self) -> None:
        """Begin no reload any more: the gateway drains."""
        self._is_open, self._is_closed = False, True

    def request(self) -> None:
        """Read the configuration again, whether or not its file has changed."""
        reason = self._source.fixed or ("The gateway is shutting down." if self._is_closed else "")
        if self._is_open:
            self._manager.reloading()
        if not reason:
            self._is_requested = True
            return
        self._logger.warning("reload_ignored", message=reason)
        if self._is_open:
            self._manager.reloaded(reason)

    def tick(self, now: float) -> None:
        """Look at the file if it is time; `now` in monotonic seconds."""
        is_wanted = self._is_requested or (self.config.server.watch and not self._source.fixed)
        if is_wanted and self._is_open and not self._is_looking and now >= self._next_look:
            self._next_look = now + LOOK_EVERY
            self._is_looking = True
            self._tasks.start(self._look(), "configuration file")

    def described(self) -> bytes:
        """The answer of `GET /config`, in JSON. Takes milliseconds for each hundred routes: for a thread."""
        content = shown(self.config)
        return msgspec.json.encode(
            {
                "source": self._source.name,
                "loaded_at": datetime.fromtimestamp(self._loaded_at, UTC),
                "sha256": fingerprint(content),
                "needs_restart": self._needs_restart,
                "config": content,
            }
        )

    def last(self) -> dict[str, Any]:
        """What became of the last reload. Times are in seconds since the epoch."""
        return {
            "source": self._source.name,
            "loaded_at": round(self._loaded_at, 3),
            "needs_restart": self._needs_restart,
            "refused_at": self._refused_at,
            "refused": self._refused,
        }

    async def _look(self) -> None:
        try:
            version = await self._thread.run(version_of, self._source.path)
            if version == self._loaded and not self._is_requested:
                self._seen, self._looks = None, 0
            elif version == self._seen:
                await self._reload(version)
            elif self._looks < MOST_LOOKS:
                self._seen = version
                self._looks += 1
            else:
                self._is_requested, self._loaded, self._looks = False, version, 0
                self._refuse([], f"{self._source.name} was another file at each of {MOST_LOOKS} looks")
        finally:
            self._is_looking = False

    async def _reload(self, version: FileVersion) -> None:
        self._is_requested, self._seen, self._looks, self._loaded = False, None, 0, version
        reading = await self._thread.run(self._source.read)
        if await self._thread.run(version_of, self._source.path) != version:
            self._is_requested = True  # what was read may be half of each
            return
        try:
            config = usable(reading)
            await self._thread.run(self._check_packages, config, reading)
            await self._check_log(config, reading)
            await self._apply(await self._thread.run(self._change, config), reading.warnings)
        except ConfigError as error:
            self._refuse(error.mistakes)
        except CannotApplyError as error:
            self._refuse([], str(error))

    def _on_bug(self, error: BaseException) -> None:
        self._logger.error("bug", error=repr(error), exc_info=error)
        self._refuse([], "the gateway has a bug; the line above has the details")

    def _change(self, config: Config) -> Change:
        return change(self.config, config, is_admin_local=self._served.is_admin_local)

    def _check_packages(self, config: Config, reading: Reading) -> None:
        keys: tuple[str, ...] = ("limits", "store")
        try:
            check_store(config.limits)
            keys = ("traces",)
            check_traces(config.traces)
        except ValueError as error:
            raise self._mistake(reading, keys, error) from None

    async def _check_log(self, config: Config, reading: Reading) -> None:
        """Open another log file than that of now; a worker is the same user."""
        if config.logs.file == self.config.logs.file:
            return
        try:
            await self._thread.run(check_log_file, config.logs.file)
        except CannotRunError as error:
            raise self._mistake(reading, ("logs", "file"), error) from None

    def _mistake(self, reading: Reading, keys: tuple[str, ...], error: Exception) -> ConfigError:
        line = 0 if reading.tree is None else reading.tree.place_of(*keys)[0]
        return ConfigError([Mistake(self._source.name, line, "", str(error))])

    async def _apply(self, change: Change, warnings: list[Mistake]) -> None:
        await self._served.apply(change.config)
        self.config, self._needs_restart, self._loaded_at = change.config, change.needs_restart, time()
        self._refused_at, self._refused = None, ""
        self._served.count_reload(is_valid=True)
        for warning in warnings:
            self._logger.warning("config_warning", **place(warning))
        if change.needs_restart:
            self._logger.warning("needs_restart", keys=list(change.needs_restart), message=_RESTART)
        sha256 = await self._thread.run(lambda: fingerprint(shown(change.config)))
        self._logger.info("config_reloaded", changed=list(change.changed), sha256=sha256)
        self._manager.reloaded("The configuration was reloaded.")

    def _refuse(self, mistakes: list[Mistake], reason: str = "") -> None:
        """`reason`: why a valid configuration cannot be served."""
        self._served.count_reload(is_valid=False)
        for mistake in mistakes[:MOST_LOGGED]:
            self._logger.error("config_mistake", **place(mistake))
        why: dict[str, Any] = {"reason": reason} if reason else {"count": len(mistakes)}
        self._refused_at = round(time(), 3)
        self._refused = reason or f"{len(mistakes)} mistakes, which are in the log"
        self._logger.error("config_refused", **why, message=_STAYS)
        self._manager.reloaded("The changed configuration was refused: its mistakes are in the log.")


_STAYS = "the configuration stays as it was"


def place(mistake: Mistake) -> dict[str, Any]:
    """A mistake as fields of a log line."""
    return {"file": mistake.file, "line": mistake.line, "key": mistake.key, "message": mistake.message}


def version_of(path: Path) -> FileVersion:
    """Of a file that cannot be looked at, none: reading it says why."""
    try:
        return file_version(path)
    except OSError:
        return ()


def is_readable_again(path: Path) -> bool:
    """Whether reading it twice gives the same: it is a file, not a pipe, or it does not exist."""
    try:
        return stat.S_ISREG(path.stat().st_mode) or stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return True  # reading it says why
