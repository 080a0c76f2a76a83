"""Checks of the files in deploy/ that need no installation."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.config import load
from tests.harness import bounds
from tests.harness.image import DOCKERFILE, instructions
from tests.harness.programs import program

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "flowise-gateway.service"
DEFAULTS = load(ROOT / "config" / "gateway.yaml", {})


def unit_settings():
    pairs = (line.split("=", 1) for line in UNIT.read_text().splitlines() if re.match(r"[A-Za-z]+=", line))
    settings = {}
    for key, value in pairs:
        settings.setdefault(key, []).append(value)
    return settings


def test_systemd_accepts_the_unit(tmp_path):
    systemd_analyze = program("systemd-analyze")
    copy = tmp_path / UNIT.name
    copy.write_text(
        UNIT.read_text().replace("/opt/flowise-gateway/.venv/bin/flowise-gateway", sys.executable)
    )
    verified = subprocess.run(
        [systemd_analyze, "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        timeout=bounds.STEP,
    )
    assert UNIT.name not in verified.stderr
    assert "Unknown key" not in verified.stderr


def test_the_unit_waits_for_the_drain():
    (stop,) = unit_settings()["TimeoutStopSec"]
    server = DEFAULTS.server
    assert int(stop.removesuffix("s")) > server.drain + server.drain_delay + 10


def test_the_unit_allows_enough_file_descriptors():
    (limit,) = unit_settings()["LimitNOFILE"]
    assert int(limit) > DEFAULTS.server.max_connections + DEFAULTS.upstreams["main"].max_connections + 64


@pytest.mark.parametrize("key", ["ExecStart", "ExecStartPre"])
def test_the_units_commands_exist(key, tmp_path, capsys):
    (command,) = unit_settings()[key]
    words = shlex.split(command)[1:]
    words[words.index("--config") + 1] = str(ROOT / "config" / "gateway.yaml")
    if words[0] == "serve":
        words[0] = "check"  # the same arguments, but it returns
    assert main(words) == 0
    capsys.readouterr()


def test_the_dockerfile_copies_existing_files_of_the_build_context():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [argument.split()[:-1] for name, argument in instructions() if name == "COPY"]
    sources = [source for line in copied if not line[0].startswith("--from=") for source in line]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert {source, Path(source).parts[0]} & kept


def test_the_dockerfile_copies_what_the_build_needs():
    """hatchling reads these files."""
    build = DOCKERFILE.read_text().rpartition("\nFROM ")[0]
    for needed in ("pyproject.toml", "README.md", "LICENSE", "gateway"):
        assert re.search(rf"^COPY .*\b{re.escape(needed)}\b", build, re.MULTILINE)


def test_the_image_runs_as_an_unprivileged_user():
    names = [name for name, _ in instructions()]
    assert ("USER", "10001:10001") in instructions()
    assert names.index("USER") < names.index("ENTRYPOINT")


def test_the_image_listens_on_all_addresses():
    found, environ = dict(instructions()), " ".join(said for name, said in instructions() if name == "ENV")
    assert json.loads(found["ENTRYPOINT"]) == ["flowise-gateway"]
    assert json.loads(found["CMD"]) == ["serve"]
    assert f"GATEWAY_LISTEN=0.0.0.0:{found['EXPOSE']}" in environ


def test_the_health_check_reads_the_configuration_that_is_mounted():
    said = dict(instructions())["HEALTHCHECK"]
    (file,) = set(re.findall(r"/etc/[\w./-]+", said))
    assert f"--config {file} " in DOCKERFILE.read_text().replace(f"-v ./gateway.yaml:{file}:ro", "")
    assert f"-v ./gateway.yaml:{file}:ro" in DOCKERFILE.read_text()
    assert "flowise-gateway health " in said
