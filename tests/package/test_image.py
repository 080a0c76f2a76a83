"""The image, without a container engine: the Dockerfile's own steps in an empty root, and the result on a read-only one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest

from gateway import __version__
from tests.harness import bounds
from tests.harness.image import DOCKERFILE, instructions
from tests.harness.interpreters import interpreter, supported
from tests.harness.processes import ROOT
from tests.harness.programs import program

pytestmark = [pytest.mark.package, pytest.mark.timeout(60 * bounds.TEST)]
LOCKED = re.compile(r"^([a-z0-9-]+)==", re.MULTILINE)
LICENCE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What `python -m tests.harness.image` found."""
    if os.geteuid() != 0:
        pytest.skip("only root can make roots and become another user")
    (version,) = set(re.findall(r"^FROM python:([\d.]+)-", DOCKERFILE.read_text(), re.MULTILINE))
    if interpreter(version) is None:
        pytest.skip(f"needs Python {version} with venv")
    folder = tmp_path_factory.mktemp("image")
    alone = [program("unshare"), "--mount", "--propagation", "private"]
    done = subprocess.run(
        [*alone, sys.executable, "-m", "tests.harness.image", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_streams_an_answer_as_an_unprivileged_user_without_home(found):
    status, kind, answer = found["answer"]
    assert (status, kind) == (200, "text/event-stream")
    assert answer.startswith("Hello from the Flowise simulator")
    assert found["process"] == {"Uid": "10001", "CapEff": "0" * 16, "NoNewPrivs": "1"}


def test_its_health_check_says_whether_it_serves(found):
    status, said = found["healthy"]
    assert status == 0, said
    status, said = found["after"]
    assert status == 1, said
    status, said = found["file"]
    assert (status, "127.0.0.1:9191" in said) == (0, True), said


def test_keys_are_created_in_the_volume_and_nothing_else_can_be_written(found):
    status, said = found["key"]
    assert status == 0, said
    assert said.startswith("fgw_")
    assert found["written"] == ["touch: cannot touch '/x': Read-only file system"]


def test_it_ends_in_order_by_its_stop_signal(found):
    assert found["ended"] == [0, ""]


def test_its_bill_of_materials_names_what_it_installs_and_nothing_else(found):
    bill = json.loads(found["sbom"])
    named = {re.sub(r"[-_.]+", "-", each["name"].lower()): each["version"] for each in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    assert named.pop("flowise-gateway") == __version__
    assert set(named) <= set(LOCKED.findall((ROOT / "requirements.lock").read_text()))
    assert {"aiohttp", "uvloop", "cryptography"} <= set(named)


def test_its_labels_are_those_of_the_package(found):
    labels = {
        name.removeprefix("org.opencontainers.image."): value for name, value in found["labels"].items()
    }
    assert (labels["title"], labels["licenses"]) == ("flowise-gateway", LICENCE)
    assert {"version", "revision", "created"} <= set(labels)


def test_its_python_is_the_newest_that_the_package_supports():
    bases = {said.partition(" AS ")[0] for name, said in instructions() if name == "FROM"}
    assert [base.partition("-")[0] for base in bases] == [f"python:{supported()[-1]}"]
