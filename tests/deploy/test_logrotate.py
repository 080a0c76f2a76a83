"""The shipped file for logrotate, run by the real one over a log that is being written."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest

from gateway.telemetry.log_file import LogFile
from gateway.telemetry.log_writer import LogWriter
from tests.deploy.test_deploy import UNIT, unit_settings
from tests.harness import bounds
from tests.harness.programs import program

SHIPPED = UNIT.with_suffix(".logrotate")
FOLDER = "/var/log/flowise-gateway"


@pytest.fixture
def rotate(tmp_path):
    """Runs logrotate with the shipped file for another folder."""
    command = program("logrotate", "/usr/sbin/logrotate")
    own = tmp_path / "flowise-gateway.logrotate"
    own.write_text(SHIPPED.read_text().replace(FOLDER, str(tmp_path)))
    own.chmod(0o644)

    def run():
        subprocess.run(
            [command, "--force", "--state", str(tmp_path / "state"), str(own)],
            check=True,
            capture_output=True,
            timeout=bounds.STEP,
        )

    return run


def test_the_real_logrotate_loses_no_line(rotate, tmp_path):
    path = tmp_path / "gateway.log"
    path.touch()
    with LogWriter(io.StringIO()) as writer:
        writer.divert(LogFile(path))
        for number in range(3000):
            writer.write(f"{number}\n")
            if number == 1500:
                while path.stat().st_size == 0:  # logrotate leaves an empty file where it is
                    os.sched_yield()
                rotate()
    (old,) = tmp_path.glob("gateway.log.*")
    assert (old.read_text() + path.read_text()).splitlines() == [str(number) for number in range(3000)]
    assert path.read_text().endswith("2999\n")


def test_the_folder_is_that_of_the_unit_and_the_gateway_needs_no_signal():
    (folder,) = unit_settings()["LogsDirectory"]
    assert str(Path("/var/log") / folder) == FOLDER
    lines = [line.strip() for line in SHIPPED.read_text().splitlines()]
    assert f"{FOLDER}/*.log {{" in lines
    assert {"create", "delaycompress"} <= set(lines)
    assert not {"copytruncate", "postrotate"} & set(lines)
