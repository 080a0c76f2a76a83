from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import UpstreamBadReply
from gateway.flowise.icons import icon_type, is_missing

CAPTURED, UNKNOWN = (
    (Path(__file__).parents[1] / "captures" / f"{name}.raw").read_bytes().partition(b"\r\n\r\n")[2]
    for name in ("node-icon", "node-icon-unknown")
)


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (CAPTURED, "image/svg+xml"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- made by -->\n<svg/>', "image/svg+xml"),
        (b"\x89PNG\r\n\x1a\n rest", "image/png"),
        (b"\xff\xd8\xff\xe0 rest", "image/jpeg"),
    ],
)
def test_the_type_follows_from_the_content(content, media_type):
    assert icon_type(content) == media_type


@pytest.mark.parametrize("content", [b"", b"<html><body>", b"GIF89a", b"{}", b"<" + b" " * 2000 + b"<svg"])
def test_anything_else_is_a_bad_reply(content):
    with pytest.raises(UpstreamBadReply):
        icon_type(content)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (500, UNKNOWN, True),
        (404, UNKNOWN, True),
        (200, UNKNOWN, False),
        (503, UNKNOWN, False),
        (500, b'{"message":"Error: nodesService.getSingleNodeIcon - SQLITE_BUSY"}', False),
        (500, b"", False),
    ],
)
def test_flowise_says_that_there_is_none(status, body, expected):
    assert is_missing(status, body) is expected
