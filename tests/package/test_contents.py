"""What is in the sdist and the wheel: all that is needed, and nothing else."""

from __future__ import annotations

import ast
import email
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import PurePosixPath

import pytest

from gateway import __version__
from tests.harness import bounds
from tests.harness.interpreters import supported
from tests.harness.processes import ROOT

pytestmark = [pytest.mark.package, pytest.mark.timeout(12 * bounds.TEST)]
NAMED_FILE = re.compile(r"(?<![\w/.<>{$-])((?:[\w.-]+/)+[\w.-]+\.(?:yaml|yml|json|md|service))\b")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@pytest.fixture(scope="module")
def packed(wheel):
    """The files of the wheel, by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(packed):
    (name,) = [name for name in packed if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(packed[name])


def tracked(*paths):
    """What git knows below these paths; the sdist itself has no git."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository")
    listed = subprocess.run(["git", "ls-files", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.splitlines())


def test_the_wheel_holds_every_file_of_the_package_and_no_other(packed):
    assert {name for name in packed if ".dist-info/" not in name} == tracked("gateway")


@pytest.mark.parametrize("suffix", [".css", ".html", ".js", ".lua", ".py", ".svg", ".typed"])
def test_the_wheel_holds_files_of_each_kind_that_the_gateway_reads(packed, suffix):
    assert [name for name in packed if PurePosixPath(name).suffix == suffix and packed[name] is not None]


def test_the_wheel_has_the_licence_and_one_command(packed):
    below = {name.partition(".dist-info/")[2]: content.decode() for name, content in packed.items()}
    assert below["licenses/LICENSE"] == (ROOT / "LICENSE").read_text()
    assert below["entry_points.txt"].split() == [
        "[console_scripts]",
        "flowise-gateway",
        "=",
        "gateway.__main__:main",
    ]


def test_the_sdist_holds_every_file_of_the_repository_and_no_other(sdist):
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert names - {"PKG-INFO"} == tracked()


def test_both_pass_the_check_of_the_package_index(wheel, sdist):
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", wheel, sdist],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count("PASSED") == 2


def test_the_metadata_says_what_it_is(metadata):
    assert (metadata["Name"], metadata["Version"]) == ("flowise-gateway", __version__)
    assert metadata["Requires-Python"] == f">={supported()[0]}"
    assert metadata["License-Expression"] == "Apache-2.0"
    classifiers = metadata.get_all("Classifier")
    assert "Typing :: Typed" in classifiers
    assert "Framework :: aiohttp" in classifiers


def test_nothing_that_runs_but_traces_is_left_to_an_extra(metadata):
    """The others hold what develops, measures or builds the package."""
    assert set(metadata.get_all("Provides-Extra")) == {"dev", "bench", "otel", "package"}


def test_no_message_names_a_file_that_the_wheel_lacks(packed):
    missing = {}
    for name, content in packed.items():
        if name.endswith(".py"):
            named = {file for text in messages(content) for file in NAMED_FILE.findall(text)}
            if lost := [file for file in named if (ROOT / file).exists() and file not in packed]:
                missing[name] = lost
    assert not missing


def messages(source):
    """Every text of a file that is not a docstring."""
    nodes = list(ast.walk(ast.parse(source)))
    documents = {
        id(node.body[0].value) for node in nodes if isinstance(node, DOCUMENTED) and ast.get_docstring(node)
    }
    texts = (node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [node.value for node in texts if id(node) not in documents]
