"""Names for routes, upstreams and variables, made from the names of chatflows (pure)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from gateway.flowise.chatflows import Chatflow

LONGEST = 48  # of a route's 64 characters, so that a number and the prefix of a variable fit
_OTHERS = re.compile(r"[^a-z0-9]+")


def route_names(chatflows: Sequence[Chatflow]) -> list[str]:
    """A name for each, unique: `Support (EU)` becomes support-eu, and a second one support-eu-2."""
    taken: set[str] = set()
    names = []
    for flow in chatflows:
        base = name = _slug(flow.name) or f"flow-{flow.id[:8]}"
        number = 1
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name)
        names.append(name)
    return names


def _slug(text: str) -> str:
    """In lower case a-z, 0-9 and single hyphens; empty if nothing is left. Never like a chatflow id."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    slug = _OTHERS.sub("-", plain.lower()).strip("-")[:LONGEST].strip("-")
    return f"flow-{slug}" if _is_like_an_id(slug) else slug


def _is_like_an_id(slug: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", slug) is not None


def key_variable(route: str) -> str:
    """The environment variable for the API key of one chatflow."""
    return f"FLOWISE_API_KEY_{route.upper().replace('-', '_')}"
