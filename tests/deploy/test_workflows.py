"""The workflows follow GitHub's schema, and what they run is here. They have never run in these tests."""

from __future__ import annotations

import re

import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema.validators import validator_for

from gateway import __version__
from tests.harness.interpreters import supported
from tests.harness.manifests import ROUTES
from tests.harness.monitoring import parsed
from tests.harness.processes import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCHEMA = get_builtin_schema("vendor.github-workflows")
each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
APT = re.compile(r"apt-get install -y -qq --no-install-recommends (?:\\\n)?\s*([a-z -]+[a-z])")


def steps():
    return [
        step for path in WORKFLOWS for job in parsed(path)["jobs"].values() for step in job.get("steps", ())
    ]


@each
def test_it_follows_the_schema(path):
    validator = validator_for(SCHEMA)(SCHEMA)
    # YAML 1.1 reads the key `on` as true
    content = {"on" if key is True else key: value for key, value in parsed(path).items()}
    assert [error.message for error in validator.iter_errors(content)] == []
    assert list(validator.iter_errors(content | {"jbos": {}}))


@each
def test_it_may_only_read_unless_a_job_says_more_and_ends_by_itself(path):
    assert parsed(path)["permissions"] == {"contents": "read"}
    for job in parsed(path)["jobs"].values():
        assert "uses" in job or job["timeout-minutes"] <= 60


def test_it_installs_the_programs_that_ci_installs():
    ci = APT.search((ROOT / ".ci" / "run").read_text())[1]
    (workflow,) = APT.findall((ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert workflow.split() == ci.split()


def test_every_verb_and_file_exists():
    verbs = set(re.findall(r"^([a-z0-9]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = "\n".join(step.get("run", "") for step in steps())
    assert {"check", "wheel"} <= set(re.findall(r"^make (\w+)", commands, re.MULTILINE)) <= verbs
    assert ROUTES in commands
    files = re.findall(r"-f (\S+)", commands) + [
        step["with"]["file"] for step in steps() if "file" in step.get("with", {})
    ]
    assert set(files) == {"deploy/Dockerfile"}
    for path in WORKFLOWS:
        for job in parsed(path)["jobs"].values():
            assert "uses" not in job or (ROOT / job["uses"]).is_file()
            assert set(
                [job.get("needs", [])] if isinstance(job.get("needs"), str) else job.get("needs", [])
            ) <= set(parsed(path)["jobs"])


def test_the_wheel_is_tried_in_every_supported_python():
    (versions,) = [
        step["with"]["python-version"].split()
        for step in steps()
        if "\n" in str(step.get("with", {}).get("python-version"))
    ]
    assert sorted(versions) == supported()


def test_the_files_that_the_release_compares_have_the_version_where_it_looks():
    (compared,) = [step["run"] for step in steps() if "#v" in step.get("run", "")]
    assert f'__version__ = "{__version__}"' in (ROOT / "gateway" / "__init__.py").read_text().splitlines()
    for file in re.findall(r"(\S+)$", compared, re.MULTILINE):
        assert (ROOT / file).is_file()


def test_the_bill_of_materials_is_taken_from_where_the_image_has_it():
    (taken,) = [step["run"] for step in steps() if "docker cp" in step.get("run", "")]
    source = taken.split()[2].partition(":")[2]
    assert f"--output-file {source} " in (ROOT / "deploy" / "Dockerfile").read_text()
