"""The sdist and the wheel of `make wheel`, and empty environments in which nothing but the wheel is installed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.installed import Installed
from tests.harness.interpreters import interpreter, supported
from tests.harness.processes import ROOT


def _distribution(pattern):
    found = sorted((ROOT / "dist").glob(pattern))
    assert len(found) == 1, (
        "dist/ must hold one wheel and one sdist: `make wheel` builds both and runs these tests"
    )
    return found[0]


@pytest.fixture(scope="session")
def wheel():
    return _distribution("*.whl")


@pytest.fixture(scope="session")
def sdist():
    return _distribution("*.tar.gz")


@pytest.fixture(scope="session")
def environments(wheel, tmp_path_factory):
    """One for each version of Python that is here; all are made at the same time."""
    found = {version: python for version in supported() if (python := interpreter(version)) is not None}

    def make(version):
        installed = Installed(tmp_path_factory.mktemp(f"python{version}"))
        installed.install(found[version], str(wheel))
        return installed

    with ThreadPoolExecutor() as pool:
        return dict(zip(found, pool.map(make, found), strict=True))


@pytest.fixture(params=supported())
def installed(request, environments):
    """The bare wheel, in each supported version of Python in turn."""
    if request.param not in environments:
        pytest.skip(f"needs Python {request.param} with venv")
    return environments[request.param]
