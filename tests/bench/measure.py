"""The rounds: each target is measured once in each round, in an order that rotates."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import msgspec

from tests.bench.jobs import Figures, Job
from tests.bench.processes import BenchError, run_load
from tests.bench.targets import DIRECT, GATEWAY, LITELLM, NGINX, UVLOOP, Site, Target, started

EVENTS_PER_SECOND = 1000  # of all streams together, where their number grows


@dataclass
class Results:
    """Figures by name and target, one value for each round; `failures` has what could not be measured, and why."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, target: str, figures: Figures) -> None:
        for name, value in figures.items():
            self.values.setdefault(name, {}).setdefault(target, []).append(value)

    def fail(self, target: str, what: str, error: BenchError) -> None:
        """Record a failure; the other targets are still measured."""
        self.failures.append(f"{target}, {what}: {error}")
        note(f"FAILED {self.failures[-1]}")


@dataclass(frozen=True)
class Bench:
    """Shared by all parts: the site, the names of the targets, the results, the core of the load generator."""

    site: Site
    targets: Sequence[str]
    results: Results
    core: int | None

    def measure(self, target: Target, job: Job) -> None:
        """Run one job against one target and keep its figures.

        Raises:
            BenchError: the load generator could not measure.
        """
        job = msgspec.structs.replace(
            job, port=target.port, watch=target.pid, authorization=target.authorization, ca=target.ca
        )
        printed = run_load(msgspec.json.encode(job), self.core)
        self.results.add(target.name, msgspec.json.decode(printed, type=Figures))

    def job(self, **settings: object) -> Job:
        """A job for this upstream; `measure` adds port and process of the target."""
        return msgspec.convert({"port": 0, "upstream_port": self.site.upstream_port, **settings}, Job)


def note(text: str) -> None:
    """Print progress to standard error."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def in_rounds(bench: Bench, rounds: int, jobs: Sequence[Job]) -> None:
    """Measure all jobs on all targets, side by side: one target after the other in each round."""
    with _all_started(bench) as targets:
        for number in range(rounds):
            first = number % max(1, len(targets))
            for target in [*targets[first:], *targets[:first]]:
                note(f"round {number + 1} of {rounds}: {target.name}")
                for job in jobs:
                    if target.name == LITELLM and job.kind == "streams":
                        continue  # one worker of it cannot relay 5,000 events a second
                    if not _try(bench, target, job):
                        targets.remove(target)
                        break


@contextmanager
def _all_started(bench: Bench) -> Iterator[list[Target]]:
    with ExitStack() as stack:
        targets = []
        for name in bench.targets:
            try:
                target = stack.enter_context(started(name, bench.site))
            except BenchError as error:
                bench.results.fail(name, "start", error)
            else:
                targets.append(target)
        yield targets


def _try(bench: Bench, target: Target, job: Job) -> bool:
    try:
        bench.measure(target, job)
    except BenchError as error:
        bench.results.fail(target.name, job.kind, error)
        return False
    return True


def memory(bench: Bench, levels: Sequence[int]) -> None:
    """Measure memory per open stream on a fresh process of each proxy, before it has grown."""
    for name in bench.targets:
        if name == DIRECT:
            continue
        note(f"memory: {name}")
        try:
            with started(name, bench.site) as target:
                bench.measure(target, bench.job(kind="memory", levels=list(levels)))
        except BenchError as error:
            bench.results.fail(name, "memory", error)


def growth(bench: Bench, rounds: int, levels: Sequence[int], seconds: float) -> None:
    """Measure CPU per event with few and with many streams that bring as many events together."""
    targets = [name for name in (NGINX, UVLOOP, GATEWAY) if name in bench.targets]
    jobs = [
        bench.job(kind="growth", streams=streams, rate=EVENTS_PER_SECOND / streams, seconds=seconds)
        for streams in levels
    ]
    note("growth")
    in_rounds(replace(bench, targets=targets), rounds, jobs)
