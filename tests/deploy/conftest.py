"""promtool, if it is installed (Debian's package `prometheus`)."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.harness import bounds


@pytest.fixture
def promtool():
    """`promtool("check", "rules", path)` returns the output, or fails the test if promtool does."""
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here")

    def run(*arguments, cwd=None):
        words = ["promtool", *map(str, arguments)]
        ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=bounds.STEP, cwd=cwd)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    return run
