"""The memory for parts of replies that are kept because the token counts stand in them (pure)."""

from __future__ import annotations

import sys


class ContentBudget:
    """Bounds the bytes that all observers of a process keep at once. What is refused is not kept, and no error."""

    __slots__ = ("_limit", "used")

    def __init__(self, limit: int = sys.maxsize) -> None:
        self._limit = limit
        self.used = 0

    def resize(self, limit: int) -> None:
        """What is kept beyond a smaller limit stays until it is given back."""
        self._limit = limit

    def take(self, size: int) -> bool:
        """Count `size` more bytes; returns False, and counts none, if that exceeds the limit."""
        if self.used + size > self._limit:
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        self.used -= size
