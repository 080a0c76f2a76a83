"""Writes new files, all of them or none, and never over an existing one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from gateway.command_errors import CannotRunError


def write_new(folder: Path, files: Mapping[str, tuple[str, int]]) -> None:
    """Write files, given by name as text and mode, into a folder, which is made if it is missing.

    Each is written under another name, and linked to its own when all are complete: a link fails where a file exists.

    Raises:
        CannotRunError: one exists, or the folder cannot be written; nothing was changed.
    """
    refuse_existing(folder, files)
    written: list[Path] = []
    linked: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for text, mode in files.values():
            written.append(_write(folder, text, mode))
        for source, name in zip(written, files, strict=True):
            os.link(source, folder / name)
            linked.append(folder / name)
    except OSError as error:
        for path in linked:
            path.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            refuse_existing(folder, files)
        raise CannotRunError(
            f"{folder} cannot be written ({error.strerror}). Choose another folder with --out."
        ) from error
    finally:
        for path in written:
            path.unlink(missing_ok=True)


def refuse_existing(folder: Path, names: Mapping[str, object]) -> None:
    """Raise an error that names every file that is there already.

    Raises:
        CannotRunError: one is.
    """
    if found := [str(folder / name) for name in names if os.path.lexists(folder / name)]:
        verb, them = ("exists", "it") if len(found) == 1 else ("exist", "them")
        raise CannotRunError(
            f"{', '.join(found)} {verb}, and nothing is overwritten. Move {them} away, or choose a folder with --out."
        )


def _write(folder: Path, text: str, mode: int) -> Path:
    """A new file with a name of its own; it has the mode before it has content."""
    descriptor, name = tempfile.mkstemp(prefix=".flowise-gateway-", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)
