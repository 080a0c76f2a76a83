"""Standard input, output and error of a command: opened if they are missing, abandoned if nothing can be written.

libuv aborts the process when it closes a descriptor below 3, which it owns if the process began without one.
"""

from __future__ import annotations

import os
import sys

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_missing_streams() -> frozenset[str]:
    """Open the null device in place of each closed one; returns their names. Call it before anything is opened."""
    closed = set()
    for descriptor, (name, mode) in enumerate(_STREAMS):
        if not _is_open(descriptor):
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number
            os.set_inheritable(opened, True)
            closed.add(name)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115 - open until the end
    return frozenset(closed)


def abandon_unwritable_streams() -> None:
    """Discard what a full disk or a closed pipe did not take: because of it Python would end with status 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
