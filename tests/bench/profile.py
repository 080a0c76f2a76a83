"""A flame graph of the gateway under one load: `python -m tests.bench.profile requests`, or `make profile`.

The load is that of a part of the benchmark. py-spy samples the process from outside: it is the gateway as it is measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from tests.bench import targets
from tests.bench.jobs import Job
from tests.bench.measure import note
from tests.bench.processes import BenchError, run_load, running_upstream

SAMPLES = 500  # a second
MISSING = "py-spy is not on PATH (pip install py-spy)"
LOADS = {
    "requests": Job(kind="requests", port=0, upstream_port=0, requests=500),
    "short": Job(kind="short", port=0, upstream_port=0, requests=500, tokens=29),
    "streams": Job(kind="streams", port=0, upstream_port=0, seconds=2),
}


def main() -> int:
    chosen = _parser().parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="profile-") as folder, running_upstream(Path(folder)) as port:
            site = targets.Site(Path(folder), port, None, chosen.gateway)
            with targets.started(chosen.target, site) as target:
                _record(target, msgspec.structs.replace(LOADS[chosen.load], upstream_port=port), chosen)
    except BenchError as error:
        note(str(error))
        return 1
    return 0


def _record(target: targets.Target, job: Job, chosen: argparse.Namespace) -> None:
    """Put load on the target for as long as py-spy samples it.

    Raises:
        BenchError: py-spy is missing or may not look at the process, or the load failed.
    """
    program = _py_spy()
    if not program:
        raise BenchError(MISSING)
    ready = msgspec.structs.replace(job, port=target.port, authorization=target.authorization)
    load = msgspec.json.encode(ready)
    run_load(load)  # what is loaded and cached once is no part of the picture
    command = [program, "record", "--rate", str(SAMPLES), "--duration", str(chosen.seconds)]
    options = ["--output", str(chosen.output), "--pid", str(target.pid)]
    sampled = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with sampled:
        until = time.monotonic() + chosen.seconds
        while time.monotonic() < until and sampled.poll() is None:
            run_load(load)
        printed, _ = sampled.communicate()
    if sampled.returncode:
        raise BenchError(
            f"py-spy could not sample the process (it needs to be root or may need ptrace): {printed.strip()}"
        )
    note(
        f"{chosen.load} on {chosen.target}, {SAMPLES} samples a second for {chosen.seconds} s: {chosen.output}"
    )


def _py_spy() -> str:
    beside_python = str(Path(sys.executable).parent)
    return shutil.which("py-spy", path=beside_python + ":" + os.environ.get("PATH", "")) or ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m tests.bench.profile", description="A flame graph of the gateway under load."
    )
    add = parser.add_argument
    add("load", nargs="?", choices=sorted(LOADS), default="requests", help="which load (requests)")
    forms = (targets.GATEWAY, targets.EVERYTHING, targets.VALKEY)
    add("--target", choices=forms, default=targets.GATEWAY, help="how the gateway is configured (gateway)")
    add("--seconds", type=int, default=10, help="how long it is sampled (10)")
    add("--output", type=Path, default=Path("profile.svg"), metavar="FILE", help="the picture (profile.svg)")
    add(
        "--gateway",
        default=targets.default_gateway(),
        metavar="CMD",
        help="command of the gateway, without `serve`",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
