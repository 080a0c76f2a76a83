"""Standard output that several processes write to: whole lines, one after the other, whatever their length.

A pipe keeps only short writes apart (4 KiB on Linux), and a traceback or a question is longer. So who writes holds a
lock, which the system takes from a process that dies.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

STANDARD_OUTPUT = 1
LOCK_FILE = "log.lock"


class SharedLines:
    """A text stream, as much as a logger needs of one; all processes name the same folder."""

    def __init__(self, folder: Path, descriptor: int = STANDARD_OUTPUT) -> None:
        self._descriptor = descriptor
        self._lock = (folder / LOCK_FILE).open(
            "ab"
        )  # opened anew by each process: else it would be one lock for all

    def __enter__(self) -> Self:
        """Open already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the lock's file; what is written afterwards is lost."""
        self._lock.close()

    def write(self, text: str) -> int:
        """Write it whole before anybody else writes; waits while nobody reads.

        Raises:
            OSError: the disk is full, nobody will ever read.
        """
        rest = memoryview(text.encode(errors="backslashreplace"))
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def isatty(self) -> bool:
        """Whether a person looks on."""
        return os.isatty(self._descriptor)
