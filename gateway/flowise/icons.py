"""The media type of a node's icon, from its first bytes: what Flowise calls it could make it a page (pure)."""

from __future__ import annotations

from gateway.errors import UpstreamBadReply

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
