"""The Python interpreters of this machine that the package supports; a version manager may hide them from PATH.

`python -m tests.harness.interpreters` prints the newest; nothing, if that is the version which runs it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLASSIFIER = "Programming Language :: Python :: 3."


def supported() -> list[str]:
    """The versions that `pyproject.toml` names, like 3.11, oldest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    minors = [line.removeprefix(CLASSIFIER) for line in project["classifiers"] if line.startswith(CLASSIFIER)]
    return [f"3.{minor}" for minor in sorted(map(int, minors))]


@cache
def interpreter(version: str) -> str | None:
    """The path of an interpreter of this version; None: there is none here."""
    return next((path for path in _candidates(version) if _is(version, path)), None)


def _candidates(version: str) -> Iterator[str]:
    if (found := shutil.which(f"python{version}")) is not None:
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True))


def _is(version: str, path: str) -> bool:
    """Whether it starts: the shim of a version manager may name a version that is not active."""
    ask = [path, "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"]
    said = subprocess.run(ask, capture_output=True, text=True, check=False, cwd="/")
    return said.stdout.strip() == version


def newer_than_this() -> str | None:
    """The newest interpreter here; None if it is the version that runs."""
    running = "{}.{}".format(*sys.version_info)
    found = [version for version in supported() if interpreter(version) is not None]
    return interpreter(found[-1]) if found and found[-1] != running else None


if __name__ == "__main__":
    print(newer_than_this() or "")
