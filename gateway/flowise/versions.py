"""What a version of Flowise lacks that the gateway relies on (pure)."""

from __future__ import annotations

import re

OLDEST = (2, 1, 0)
_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})")
_SINCE = (
    ((3, 0, 0), "agentflows and reported tokens"),
    ((3, 1, 0), "an abort that needs no API key"),
    ((3, 1, 2), "heartbeats, without which silent streams may be cut"),
)


def parse_version(text: str) -> tuple[int, int, int] | None:
    """Major, minor and patch; None: not a version. What follows them, like `-rc.1`, is left out."""
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def is_too_old(version: tuple[int, int, int]) -> bool:
    """Whether it does not stream server-sent events at all, but by socket.io."""
    return version < OLDEST


def missing_in(version: tuple[int, int, int]) -> list[str]:
    """What later versions have, in the order in which it came."""
    return [what for since, what in _SINCE if version < since]
