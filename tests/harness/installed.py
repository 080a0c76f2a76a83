"""An environment of its own with what a user installs; its commands run outside of the repository."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path

from tests.harness.processes import Served


def run(*command, **options):
    """A command that must succeed; its output."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


class Installed:
    """An environment with the wheel; its commands run outside of the repository, with no path into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "env" / "bin"
        self._environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def install(self, python: str, *what: str) -> None:
        run(python, "-m", "venv", self.folder / "env", cwd=self.folder)
        self.pip("install", "--quiet", *what)

    def pip(self, *arguments):
        return run(self.bin / "python", "-m", "pip", *arguments, cwd=self.folder)

    def python(self, code):
        return run(self.bin / "python", "-c", code, cwd=self.folder, env=self._environ).strip()

    def run(self, *arguments, status=0, **environ):
        """A command of the gateway that ends by itself: output, errors."""
        done = subprocess.run(
            [self.bin / "flowise-gateway", *arguments],
            cwd=self.folder,
            env=self._environ | environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout.strip(), done.stderr.strip()

    @asynccontextmanager
    async def running(self, *arguments, **environ):
        """A command of the gateway that serves until it is told to stop."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            self.bin / "flowise-gateway",
            *arguments,
            cwd=self.folder,
            env=self._environ | environ,
            stdout=pipe,
            stderr=pipe,
            limit=2**20,
        )
        child = Served(process)
        try:
            yield child
        finally:
            await child.end()
