"""Standard input, output and error of a command: opened if they are missing, and flushed without an error at the end.

libuv aborts the process when it closes a descriptor below 3, which it owns if the process began without one.
"""

from __future__ import annotations

import contextlib
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


def flush_streams() -> None:
    """Write what is left; what a full disk or a closed pipe does not take would end Python with status 120."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
