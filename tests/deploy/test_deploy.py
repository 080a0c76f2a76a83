"""Checks of the files in deploy/ that need no installation."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.config import load
from gateway.server.service_manager import ADMIN, PUBLIC
from gateway.telemetry import loop_watch
from tests.harness import bounds
from tests.harness.image import DOCKERFILE, instructions
from tests.harness.programs import program

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "flowise-gateway.service"
SOCKETS = [UNIT.with_name(f"{name}.socket") for name in ("flowise-gateway", "flowise-gateway-admin")]
DEFAULTS = load(ROOT / "config" / "gateway.yaml", {})


def unit_settings(unit=UNIT):
    pairs = (line.split("=", 1) for line in unit.read_text().splitlines() if re.match(r"[A-Za-z0-9]+=", line))
    settings = {}
    for key, value in pairs:
        settings.setdefault(key, []).append(value)
    return settings


@pytest.mark.parametrize("unit", [UNIT, *SOCKETS], ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(unit, tmp_path):
    systemd_analyze = program("systemd-analyze")
    for one in (UNIT, *SOCKETS):
        (tmp_path / one.name).write_text(
            one.read_text().replace("/opt/flowise-gateway/.venv/bin/flowise-gateway", sys.executable)
        )
    verified = subprocess.run(
        [systemd_analyze, "verify", "--man=no", str(tmp_path / unit.name)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
        timeout=bounds.STEP,
    )
    assert "flowise-gateway" not in verified.stderr
    assert "Unknown key" not in verified.stderr


def test_the_documents_name_the_python_of_the_image():
    (version,) = set(re.findall(r"^FROM python:(3\.[0-9]+)-", DOCKERFILE.read_text(), re.MULTILINE))
    text = (ROOT / "deploy" / "README.md").read_text()
    assert re.findall(r"The image has Python (3\.[0-9]+)", text) == [version]


def test_the_socket_units_have_the_ports_of_the_configuration_and_the_names_that_are_read():
    passed = {}
    for unit in SOCKETS:
        settings = unit_settings(unit)
        (name,), (address,) = settings["FileDescriptorName"], settings["ListenStream"]
        passed[name] = address
        assert settings.get("Service", [UNIT.name]) == [UNIT.name]
    assert passed == {PUBLIC: str(DEFAULTS.server.listen[0]), ADMIN: str(DEFAULTS.admin.listen)}


def test_a_failing_check_is_not_tried_for_ever():
    """RestartPreventExitStatus is about the main process only."""
    settings = unit_settings()
    (restart,), (interval,), (burst,) = (
        settings[key] for key in ("RestartSec", "StartLimitIntervalSec", "StartLimitBurst")
    )
    seconds_of_a_check = 10  # on a slow machine
    cycle = int(restart.removesuffix("s")) + seconds_of_a_check
    assert int(burst) * cycle < int(interval.removesuffix("s"))


def test_the_unit_waits_until_the_gateway_is_ready_and_restarts_one_that_stands_still():
    settings = unit_settings()
    assert settings["Type"] == ["notify"]
    assert int(settings["WatchdogSec"][0].removesuffix("s")) > 10 * loop_watch.VERY_LONG
    assert settings["ExecReload"] == [*settings["ExecStartPre"], "/bin/kill -HUP $MAINPID"]  # checked first


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
