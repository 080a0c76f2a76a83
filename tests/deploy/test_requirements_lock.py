"""The lock file pins everything that the image installs, and nothing that `pyproject.toml` does not ask for."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.harness.processes import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WANTED = {
    "requirements.lock": [
        *PYPROJECT["project"]["dependencies"],
        *PYPROJECT["project"]["optional-dependencies"]["otel"],
    ],
    "deploy/requirements-build.lock": [
        *PYPROJECT["build-system"]["requires"],
        *(name for name in PYPROJECT["project"]["optional-dependencies"]["package"] if "cyclonedx" in name),
    ],
}
ENTRY = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?: ; (?P<marker>.*?))? \\\n", re.MULTILINE)


@pytest.fixture(params=WANTED)
def name(request):
    return request.param


def text_of(name):
    return (ROOT / name).read_text()


def locked(name):
    """The version of each package of a lock file."""
    return {found["name"]: found["version"] for found in ENTRY.finditer(text_of(name))}


def test_it_satisfies_what_the_project_asks_for(name):
    versions = locked(name)
    for line in WANTED[name]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), line


def test_it_is_closed(name):
    """What a locked package needs is locked too, as far as the packages of this environment say."""
    versions = locked(name)
    for package in versions:
        try:
            lines = metadata.requires(package) or []
        except metadata.PackageNotFoundError:
            continue
        for wanted in map(Requirement, lines):
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                assert canonicalize_name(wanted.name) in versions, f"{package} needs {wanted}"


def test_every_package_has_its_version_and_hashes_and_no_address_of_an_index(name):
    text = text_of(name)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert len([line for line in lines if not line.startswith("    --hash=sha256:")]) == len(locked(name))
    assert re.findall(r" \\\n(?!    --hash=sha256:[0-9a-f]{64}\b)", text) == []
    assert "://" not in text
    assert "-index" not in text.replace("requirements", "")


def test_the_image_installs_nothing_that_is_not_pinned():
    stages = (ROOT / "deploy" / "Dockerfile").read_text()
    installs = re.findall(r"^RUN .*\bpip (?:install|wheel)\b(.*)$", stages, re.MULTILINE)
    assert len(installs) == 4
    for install in installs:
        assert ("--require-hashes" in install) != ("--no-deps" in install)
        assert "wheel" not in install or "--no-build-isolation" in install or "/opt/dist" in install
