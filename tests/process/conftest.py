"""Puts the helpers of this folder on the path, and gives `serve` a folder of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from children import serving


@pytest.fixture
def serve(tmp_path):
    """`async with serve(upstream.url, server={...}) as gateway:` a real process."""

    def begin(upstream, **sections):
        return serving(tmp_path, upstream, **sections)

    return begin
