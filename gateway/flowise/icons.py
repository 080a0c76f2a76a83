"""A node's icon: whether there is none, and its media type, from its first bytes (pure).

What Flowise itself calls the type could make it a page.
"""

from __future__ import annotations

from http import HTTPStatus

from gateway.errors import UpstreamBadReply
from gateway.flowise.error_texts import message

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
)
_BEGINNING = 1024  # bytes in which an SVG has its first element


def icon_type(content: bytes) -> str:
    """PNG, JPEG or SVG, the three that Flowise has. Raises UpstreamBadReply for anything else."""
    for signature, media_type in _SIGNATURES:
        if content.startswith(signature):
            return media_type
    beginning = content[:_BEGINNING].removeprefix(b"\xef\xbb\xbf").lstrip()
    if beginning.startswith(b"<") and b"<svg" in beginning:
        return "image/svg+xml"
    raise UpstreamBadReply("Flowise answered with something else than an icon in PNG, JPEG or SVG.")


def is_missing(status: int, body: bytes) -> bool:
    """Whether Flowise says that it has no icon of this name: with a 500 (capture node-icon-unknown)."""
    is_error = status in (HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR)
    return is_error and message(body).endswith("not found")
