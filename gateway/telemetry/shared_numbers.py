"""Named numbers in memory that one process writes and another reads, also after the writer was killed.

The memory is anonymous: no full disk and no cleaner of old files can take it away. Each part is written with zeros
before it is mapped, so that a system without memory for it says so in an error, and not by a signal (SIGBUS) at the
first touch.

Layout: eight bytes with the size in use; then for each number the length of its name (8 bytes), the name in UTF-8,
padded to a multiple of 8, and the number (a double).
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Iterator
from struct import Struct

FIRST_SIZE = 64 * 1024  # bytes: about 350 numbers; doubled when they are used up
LARGEST_SIZE = 64 * 1024 * 1024  # bytes of one process; the names come from the configuration
_SIZE, _NUMBER = Struct("=Q"), Struct("=d")
WORD = 8


def anonymous_file(name: str) -> int:
    """A descriptor of memory, or of a deleted file on a system that has no such memory.

    Raises:
        OSError: there is neither.
    """
    try:
        return os.memfd_create(name)
    except (AttributeError, OSError):  # not Linux, or forbidden
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


def reserve(descriptor: int, size: int) -> None:
    """Make the memory at least this large.

    Raises:
        OSError: the system has no memory for it.
    """
    at = os.fstat(descriptor).st_size
    while at < size:
        at += os.pwrite(descriptor, bytes(min(FIRST_SIZE, size - at)), at)


class SharedNumbers:
    """The writer's side. Its memory is kept while a cell of it is."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: of memory that is reserved and that nothing else writes."""
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, 0)
        self._used = WORD

    def cell(self, name: str) -> memoryview[float]:
        """The place of a new number, which is 0: `cell[0] += 1`.

        Raises:
            OSError: there is no memory for it.
        """
        encoded = name.encode()
        padded = encoded.ljust(-(-len(encoded) // WORD) * WORD, b"\0")
        entry = _SIZE.pack(len(encoded)) + padded + _NUMBER.pack(0.0)
        end = self._used + len(entry)
        self._grow(end)
        self._memory[self._used : end] = entry
        self._memory[:WORD] = _SIZE.pack(end)  # last: the reader sees whole entries
        self._used = end
        return memoryview(self._memory)[end - WORD : end].cast("d")

    def _grow(self, needed: int) -> None:
        size = len(self._memory)
        if needed <= size:
            return
        while size < needed:
            size *= 2
        if size > LARGEST_SIZE:
            raise OSError(errno.ENOSPC, f"more than {LARGEST_SIZE} bytes of metrics")
        reserve(self._descriptor, size)
        self._memory = mmap.mmap(self._descriptor, size)


def read_numbers(descriptor: int) -> Iterator[tuple[str, float]]:
    """All names and numbers, in the order in which they were made."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as memory:
        (used,) = _SIZE.unpack_from(memory)
        at = WORD
        while at < used:
            (length,) = _SIZE.unpack_from(memory, at)
            at += WORD
            name = memory[at : at + length].decode()
            at += -(-length // WORD) * WORD
            yield name, _NUMBER.unpack_from(memory, at)[0]
            at += WORD
