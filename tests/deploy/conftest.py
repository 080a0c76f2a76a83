"""promtool, if it is installed."""

from __future__ import annotations

import subprocess

import pytest

from tests.harness import bounds
from tests.harness.programs import program


@pytest.fixture
def promtool():
    """`promtool("check", "rules", path)` returns the output, or fails the test if promtool does."""

    def run(*arguments, cwd=None):
        words = [program("promtool"), *map(str, arguments)]
        ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=bounds.STEP, cwd=cwd)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    return run
