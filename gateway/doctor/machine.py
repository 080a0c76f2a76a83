"""This machine and this user: secret, keys file, open files, compiled packages, disk."""

from __future__ import annotations

import asyncio
import os
import pwd
import resource
import shutil
import tempfile
from pathlib import Path

from aiohttp import http_parser

from gateway.auth.keys_file import EXPOSED_ADVICE, is_exposed, read_keys
from gateway.command_errors import CannotRunError
from gateway.config import ConfigError
from gateway.doctor.report import Finding, failed, ok, warning
from gateway.doctor.world import World
from gateway.server.descriptors import descriptors_needed
from gateway.telemetry.log_file import check_log_file

LITTLE_DISK = 100 * 1024**2  # bytes
_MIB = 1024**2


async def secret(world: World) -> list[Finding]:
    """Whether conversations and session tokens survive a restart."""
    if world.config.auth.secret:
        return [ok("secret", "auth.secret", "is set")]
    what = "is not set, so conversations and session tokens do not survive a restart."
    return [warning("secret", "auth.secret", f"{what} Set it to the output of `openssl rand -hex 32`.")]


async def keys_file(world: World) -> list[Finding]:
    """Whether this user can read the keys, and others cannot; nothing where no route needs one."""
    path = world.config.auth.keys_file
    if path is None or not any({"api_key", "session"} & route.auth for route in world.config.routes):
        return []
    return await asyncio.to_thread(_keys_file, path, world.now())


def _keys_file(path: Path, now: float) -> list[Finding]:
    try:
        keys = read_keys(path)
    except ConfigError as error:
        user = pwd.getpwuid(os.geteuid()).pw_name if _has_name() else f"user {os.geteuid()}"
        return [
            failed("keys_file", str(path), f"{mistake.message} (this is {user}).")
            for mistake in error.mistakes
        ]
    valid = [key for key in keys if key.is_valid(now)]
    if not valid:
        advice = "`flowise-gateway keys create --name N` adds one."
        return [warning("keys_file", str(path), f"has no valid key, so nobody can call. {advice}")]
    if is_exposed(path):
        return [warning("keys_file", str(path), f"{EXPOSED_ADVICE} {path}.")]
    return [ok("keys_file", str(path), f"has {len(valid)} valid key{'s' * (len(valid) != 1)}")]


def _has_name() -> bool:
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True


async def log_file(world: World) -> list[Finding]:
    """Whether this user can append to the log file, which is not made here; nothing if there is none."""
    path = world.config.logs.file
    return [] if path is None else await asyncio.to_thread(_log_file, path)


def _log_file(path: Path) -> list[Finding]:
    folder = Path(os.path.realpath(path)).parent
    try:
        if path.exists():
            check_log_file(path)
        elif not os.access(folder, os.W_OK | os.X_OK):
            what = f"cannot be made: this user cannot write into {folder}."
            advice = "Let it, or name a file in another folder."
            return [failed("log_file", str(path), f"{what} {advice}")]
        free = shutil.disk_usage(folder).free
    except CannotRunError as error:
        return [failed("log_file", str(path), str(error))]
    except OSError as error:
        advice = "Let this user search its folder, or name another file."
        return [failed("log_file", str(path), f"cannot be examined ({error.strerror}). {advice}")]
    if free < LITTLE_DISK:
        advice = "Free some, or rotate the file more often: lines that do not fit are lost."
        return [warning("log_file", str(path), f"has {free // _MIB} MiB left. {advice}")]
    return [ok("log_file", str(path), f"can be written, and has {free // _MIB} MiB left")]


async def descriptors(world: World) -> list[Finding]:
    """Whether the hard limit of open files suffices for `max_connections`; the gateway raises the soft one."""
    needed = descriptors_needed(world.config)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        what = f"This user may open {hard} files, and max_connections needs {needed}."
        advice = "Raise the limit (ulimit -n, LimitNOFILE=), or lower server.max_connections."
        return [warning("descriptors", "", f"{what} {advice}")]
    return [ok("descriptors", "", f"enough open files for max_connections ({needed})")]


async def extensions(_: World) -> list[Finding]:
    """Whether aiohttp parses requests with its C extension."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        what = "aiohttp runs without its C extensions, so requests cost several times as much."
        advice = "Install its wheel for this platform, and unset AIOHTTP_NO_EXTENSIONS."
        return [warning("extensions", "aiohttp", f"{what} {advice}")]
    return [ok("extensions", "aiohttp", "has its C extensions")]


async def disk(world: World) -> list[Finding]:
    """Whether the folder for temporary files is there, writable and not full."""
    return await asyncio.to_thread(_disk, world.environ.get("TMPDIR", ""), world.config.server.workers)


def _disk(wanted: str, workers: int) -> list[Finding]:
    wrong = failed if workers > 1 else warning
    folder = wanted or tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        advice = "Set TMPDIR to a folder that this user can write."
        return [wrong("disk", folder, f"cannot be written ({error.strerror}). {advice}")]
    if free < LITTLE_DISK:
        advice = "Free some, or set TMPDIR to another folder."
        return [wrong("disk", folder, f"has {free // _MIB} MiB left. {advice}")]
    return [ok("disk", folder, f"has {free // _MIB} MiB left")]
