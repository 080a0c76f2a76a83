"""Evaluates the figures: the table, the ratios within each round, the targets met or missed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.bench import jobs
from tests.bench.measure import Results
from tests.bench.targets import ALL, DIRECT, ENVOY, GATEWAY, NGINX

_ADDED_P50 = "added latency p50 ms"
_ADDED_P99 = "added latency p99 ms"
_MEMORY_KB = 20.0

_ROWS = (
    (jobs.CPU_EVENT, "CPU µs per event"),
    (jobs.CPU_REQUEST, "CPU µs per request"),
    (jobs.LATENCY_P50, "latency p50 ms"),
    (jobs.LATENCY_P99, "latency p99 ms"),
    (_ADDED_P50, _ADDED_P50),
    (_ADDED_P99, _ADDED_P99),
    (jobs.REQUEST_P50, "short request p50 ms"),
    (jobs.REQUEST_P99, "short request p99 ms"),
    (jobs.EVENT_RATE, "events/s seen"),
    (jobs.REQUEST_RATE, "requests/s seen"),
)


@dataclass(frozen=True)
class Verdict:
    """One target of the project and the measured value; `met` is None if nothing was measured."""

    target: str
    found: str
    met: bool | None

    def __str__(self) -> str:
        return f"{self.target}: {self.found} {_WORDS[self.met]}".replace("  ", " ")


_WORDS = {True: "ok", False: "MISSED", None: "not measured"}


def add_latency_over_direct(results: Results) -> None:
    """Add the latency of each target minus that of the direct connection, round by round."""
    pairs = ((jobs.LATENCY_P50, _ADDED_P50), (jobs.LATENCY_P99, _ADDED_P99))
    for measured, added in pairs:
        by_target = results.values.get(measured, {})
        for target, values in by_target.items():
            if target != DIRECT and DIRECT in by_target:
                for one, base in zip(values, by_target[DIRECT], strict=False):
                    results.add(target, {added: one - base})


def ratio(results: Results, name: str, target: str, base: str) -> float | None:
    """Return the median over all rounds of target ÷ base in the same round; None if one is missing."""
    by_target = results.values.get(name, {})
    pairs = zip(by_target.get(target, []), by_target.get(base, []), strict=False)
    ratios = [one / other for one, other in pairs if other > 0]
    return statistics.median(ratios) if ratios else None


def table(results: Results, versions: dict[str, str]) -> str:
    """The medians with their spread (lowest to highest round), and the gateway's ratios."""
    targets = [name for name in ALL if any(name in by_target for by_target in results.values.values())]
    header = [
        "",
        *(f"{name} {versions.get(name, '')}".strip() for name in targets),
        "gateway/nginx",
        "gateway/Envoy",
    ]
    lines = [header]
    for name, label in [*_ROWS, *_memory_rows(results)]:
        by_target = results.values.get(name)
        if by_target:
            cells = [_cell(by_target.get(target, [])) for target in targets]
            lines.append([label, *cells, *_ratios(results, name)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(_line(line, widths) for line in lines)


def _memory_rows(results: Results) -> Iterator[tuple[str, str]]:
    for name in results.values:
        kind, _, streams = name.partition("_kb_per_stream_")
        if streams:
            yield name, f"{kind.upper()} KB per stream, {streams} open"


def _ratios(results: Results, name: str) -> list[str]:
    if name in (_ADDED_P50, _ADDED_P99):
        return ["", ""]
    found = (ratio(results, name, GATEWAY, base) for base in (NGINX, ENVOY))
    return ["" if one is None else f"{one:.2f}" for one in found]


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    middle = _number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({_number(min(values))}-{_number(max(values))})"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 5 else f"{value:.3f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]).rstrip()


def verdicts(results: Results, parts: Sequence[str]) -> list[Verdict]:
    """Compare the figures of the selected parts with the project's targets."""
    found = []
    if "streams" in parts:
        cpu_envoy = ratio(results, jobs.CPU_EVENT, GATEWAY, ENVOY)
        cpu_nginx = ratio(results, jobs.CPU_EVENT, GATEWAY, NGINX)
        latency = ratio(results, jobs.LATENCY_P50, GATEWAY, NGINX)
        found += [
            _at_most("CPU per event ≤ 0.9 × Envoy", cpu_envoy, 0.9, ""),
            _at_most("CPU per event ≤ 1.5 × nginx", cpu_nginx, 1.5, ""),
            _at_most("p50 latency ≤ nginx's", latency, 1.0, " × nginx's"),
        ]
    if "memory" in parts:
        worst = _worst_memory(results)
        found.append(_at_most(f"memory per open stream ≤ {_MEMORY_KB:.0f} KB", worst, _MEMORY_KB, " KB"))
    return found


def _at_most(target: str, value: float | None, limit: float, unit: str) -> Verdict:
    if value is None:
        return Verdict(target, "", None)
    return Verdict(target, f"{value:.2f}{unit}", value <= limit)


def _worst_memory(results: Results) -> float | None:
    """Return the gateway's resident KB per stream at the level where it is highest."""
    found = [
        statistics.median(by_target[GATEWAY])
        for name, by_target in results.values.items()
        if name.startswith("rss_kb_per_stream_") and GATEWAY in by_target
    ]
    return max(found, default=None)
