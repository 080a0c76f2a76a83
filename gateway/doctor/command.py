"""The command `doctor`: its checks and its report."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping

import uvloop

from gateway.config import Config
from gateway.doctor.checks import run_checks
from gateway.doctor.report import as_json, as_table, status, without
from gateway.doctor.world import World


def doctor(
    config: Config, given: argparse.Namespace, environ: Mapping[str, str], *, is_plain: bool
) -> tuple[str, int]:
    """What to print, and the exit status. `is_plain`: for a terminal that has ASCII only."""
    world = World(config, environ, time.time, given.ask)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        findings = without(world.secrets(), runner.run(run_checks(world)))
    text = as_json(findings) if given.json else as_table(findings, is_plain=is_plain)
    return text, status(findings, is_strict=given.strict)
