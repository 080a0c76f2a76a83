"""The benchmark: the gateway beside nginx, Envoy and LiteLLM on this machine, in one run; `--help` lists the options.

The exit code is 0 if everything was measured and 1 if not; with --strict also 1 if a target was missed.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tests.bench import calls, measure, micro, options, report, slow_reader, targets
from tests.bench.measure import Bench, Results, note
from tests.bench.options import Options
from tests.bench.processes import BenchError, Cores, running_upstream
from tests.harness.certificates import Authority

_BUSY_LOAD = 0.5
SHORT_TOKENS = 29  # and metadata and end: 31 events, as in the benchmark that LiteLLM publishes


@dataclass
class Outcome:
    """The results of one run."""

    results: Results = field(default_factory=Results)
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    micro: dict[str, dict[str, float]] = field(default_factory=dict)
    calls: list[calls.Cost] = field(default_factory=list)
    slow: slow_reader.SlowReader | None = None


def main() -> int:
    chosen = options.read()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _allow_many_files()
    outcome = Outcome()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            _run(chosen, Path(folder), outcome)
    except BenchError as error:
        outcome.results.failures.append(str(error))
    except KeyboardInterrupt:
        note("interrupted")
        return 130
    verdicts = _verdicts(chosen, outcome)
    _print(chosen, outcome, verdicts)
    chosen.json.write_text(json.dumps(_as_json(chosen, outcome, verdicts), indent=1, ensure_ascii=False))
    missed = chosen.strict and any(not verdict.met for verdict in verdicts)
    return 1 if outcome.results.failures or missed else 0


def _allow_many_files() -> None:
    """Raise the limit of open files to the hard limit, for this process and its children."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run(chosen: Options, folder: Path, outcome: Outcome) -> None:
    cores = Cores.pinned() if chosen.pin else Cores()
    outcome.skipped = {
        name: why
        for name in chosen.targets
        if (why := targets.absent(name, chosen.gateway, has_tls=chosen.tls))
    }
    present = [name for name in chosen.targets if name not in outcome.skipped]
    outcome.versions = {name: targets.version(name) for name in present}
    for name, why in outcome.skipped.items():
        note(f"skipped {name}: {why}")
    if (busy := os.getloadavg()[0]) > _BUSY_LOAD:
        note(
            f"the machine is busy (load {busy:.1f}): the ratios are meaningful, the absolute figures are not"
        )
    if "micro" in chosen.parts:
        note("micro")
        outcome.micro = micro.measure()
    if "calls" in chosen.parts:
        note("calls")
        outcome.calls = calls.measure()
    with running_upstream(folder, cores.rest) as upstream_port:
        authority = Authority(folder) if chosen.tls else None
        pair = None if authority is None else authority.pair()
        site = targets.Site(folder, upstream_port, cores.proxy, chosen.gateway, authority, pair)
        bench = Bench(site, present, outcome.results, cores.rest)
        _run_parts(chosen, bench, outcome)


def _run_parts(chosen: Options, bench: Bench, outcome: Outcome) -> None:
    if "memory" in chosen.parts:
        measure.memory(bench, chosen.levels)
    if "growth" in chosen.parts:
        measure.growth(bench, chosen.rounds, chosen.growth, chosen.seconds)
    jobs = {
        "streams": bench.job(
            kind="streams", streams=chosen.streams, rate=chosen.rate, seconds=chosen.seconds
        ),
        "requests": bench.job(kind="requests", requests=chosen.requests),
        "short": bench.job(kind="short", requests=chosen.requests, tokens=SHORT_TOKENS),
        "first": bench.job(kind="first", requests=chosen.requests // 5, tokens=SHORT_TOKENS),
    }
    wanted = [job for part, job in jobs.items() if part in chosen.parts]
    if wanted:
        measure.in_rounds(bench, chosen.rounds, wanted)
        report.add_time_over_direct(bench.results)
    if "slow" in chosen.parts and targets.GATEWAY in bench.targets:
        note("slow reader: gateway")
        try:
            outcome.slow = slow_reader.measure(replace(bench.site, authority=None, pair=None))
        except (BenchError, OSError) as error:
            bench.results.fail(targets.GATEWAY, "slow reader", BenchError(str(error)))


def _verdicts(chosen: Options, outcome: Outcome) -> list[report.Verdict]:
    found = report.verdicts(outcome.results, chosen.parts)
    found += slow_reader.verdicts(outcome.slow) if "slow" in chosen.parts else []
    return found + calls.verdicts(outcome.calls)


def _print(chosen: Options, outcome: Outcome, verdicts: list[report.Verdict]) -> None:
    if not set(chosen.parts) <= {"micro", "calls"}:
        print(_conditions(chosen))
    if outcome.results.values:
        print(f"\n{report.table(outcome.results, outcome.versions)}")
        print(
            "\nmedian (least-greatest); a ratio is the median of the rounds' own ratios; 1 KB = 1,000 bytes"
        )
    if outcome.slow:
        print(
            f"\nslow reader, a client that stops reading after 1 of 500 MB\n{slow_reader.render(outcome.slow)}"
        )
    if outcome.micro:
        print(f"\n{micro.render(outcome.micro)}")
    if outcome.calls:
        print(f"\n{calls.render(outcome.calls)}")
    print()
    for name, why in outcome.skipped.items():
        print(f"skipped {name}: {why}")
    for failure in outcome.results.failures:
        print(f"FAILED {failure}")
    for verdict in verdicts:
        print(verdict)


def _conditions(chosen: Options) -> str:
    tls = ", TLS 1.3 between clients and proxies (not for the slow reader)" if chosen.tls else ""
    pinned = "proxy on one core, load and upstream on another" if chosen.pin else "no pinning"
    return (
        f"{chosen.streams} streams × {chosen.rate:g} events/s, {chosen.rounds} rounds of {chosen.seconds:g} s"
        f" and {chosen.requests} short requests from 20 connections; one worker each{tls}\n"
        f"{os.cpu_count()} cores, {pinned}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.release()}; nginx and Envoy without access log, the gateway with its request log\n"
        "the upstream, a bare event source that stamps each event, and the load generator are processes of\n"
        "their own and cheap enough not to be the bottleneck: `direct` shows what they reach without a proxy"
    )


def _as_json(chosen: Options, outcome: Outcome, verdicts: list[report.Verdict]) -> dict[str, object]:
    found = asdict(outcome)
    settings = asdict(chosen) | {"json": str(chosen.json)}
    return {"settings": settings, **found, "verdicts": [asdict(verdict) for verdict in verdicts]}


if __name__ == "__main__":
    sys.exit(main())
