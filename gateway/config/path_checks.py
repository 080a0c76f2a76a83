"""Warnings of files that `serve` makes where this user cannot make them now; on the tree, like `checks`.

No mistakes: the folder may be made at the start, as systemd makes its `RuntimeDirectory`, and for another user.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gateway.config.listeners import UnixAddress, parse_listener
from gateway.config.problems import Mistakes
from gateway.config.tree import Node, Scalar
from gateway.printable import printable

_ABSENT = "does not exist on this machine: create it, unless the service manager does, or write another path"
_FORBIDDEN = "may not be written by this user: let the gateway's user write it, or write another path"
_READ_ONLY = "this user may not write this file: let the gateway's user write it, or write another path"
_NO_SOCKET = "there is a file that is no socket: move it away, or write another path"


def check_paths(root: Node, folder: Path, mistakes: Mistakes) -> None:
    """Note sockets and a log file that could not be made now. `folder`: of the configuration file."""
    listen = root.at("server", "listen")
    for one in (listen.items or [listen]) if listen is not None else ():
        try:
            address = parse_listener(one.text or "")
        except ValueError:
            continue  # noted by its type
        if isinstance(address, UnixAddress):
            _warn(one, Path(address.path), mistakes, is_file_wanted=False)
    log = root.at("logs", "file")
    if log is not None and log.text:
        _warn(log, folder / log.text, mistakes, is_file_wanted=True)


def _warn(node: Node, path: Path, mistakes: Mistakes, *, is_file_wanted: bool) -> None:
    try:
        there = _kind(path)
        if there and not is_file_wanted and there != stat.S_IFSOCK:
            mistakes.warn(node.line, node.path, _NO_SOCKET)
            return
        if there and is_file_wanted:
            if not os.access(path, os.W_OK):
                mistakes.warn(node.line, node.path, _READ_ONLY)
            return
        obstacle = _obstacle(path.parent)
    except PermissionError:  # a folder above it is closed
        obstacle = _FORBIDDEN
    if obstacle and isinstance(node.value, Scalar):
        is_written = node.value.text == node.value.written  # else a variable holds it, which is not shown
        named = f'"{printable(str(path.parent))}"' if is_written else f"of {node.value.shown}"
        mistakes.warn(node.line, node.path, f"the folder {named} {obstacle}")


def _obstacle(folder: Path) -> str:
    if _kind(folder) != stat.S_IFDIR:
        return _ABSENT
    return "" if os.access(folder, os.W_OK | os.X_OK) else _FORBIDDEN


def _kind(path: Path) -> int:
    """The kind of a file as in `stat`; 0: there is none.

    Raises:
        PermissionError: this user may not look.
    """
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except PermissionError:
        raise
    except (OSError, ValueError):
        return 0
