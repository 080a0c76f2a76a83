"""Evaluates the figures: the table, the ratios within each round, the targets met or missed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.bench import jobs
from tests.bench.measure import Results
from tests.bench.targets import ALL, DIRECT, ENVOY, EVERYTHING, GATEWAY, NGINX

_ADDED_P50 = "added latency p50 ms"
_ADDED_P99 = "added latency p99 ms"
_ADDED_FIRST_P50 = "added time to first event p50 ms"
_ADDED_FIRST_P99 = "added time to first event p99 ms"
_OVER_DIRECT = {
    jobs.LATENCY_P50: _ADDED_P50,
    jobs.LATENCY_P99: _ADDED_P99,
    jobs.FIRST_P50: _ADDED_FIRST_P50,
    jobs.FIRST_P99: _ADDED_FIRST_P99,
}

_ROWS = (
    (jobs.CPU_EVENT, "CPU µs per event"),
    (jobs.CPU_REQUEST, "CPU µs per request"),
    (jobs.CPU_SHORT, "CPU µs per short stream"),
    (jobs.SHORT_CORE, "short streams/s of one core"),
    (jobs.LATENCY_P50, "latency p50 ms"),
    (jobs.LATENCY_P99, "latency p99 ms"),
    (_ADDED_P50, _ADDED_P50),
    (_ADDED_P99, _ADDED_P99),
    (jobs.REQUEST_P50, "short request p50 ms"),
    (jobs.REQUEST_P99, "short request p99 ms"),
    (_ADDED_FIRST_P50, _ADDED_FIRST_P50),
    (_ADDED_FIRST_P99, _ADDED_FIRST_P99),
    (jobs.EVENT_RATE, "events/s seen"),
    (jobs.REQUEST_RATE, "requests/s seen"),
    (jobs.SHORT_RATE, "short streams/s seen"),
    (jobs.IDLE_MB, "idle MB"),
)


@dataclass(frozen=True)
class Verdict:
    """One target of the project and the measured value; `met` is None if nothing was measured.

    `stretched`: it also meets what was set as a second, harder target.
    """

    target: str
    found: str
    met: bool | None
    stretched: bool = False

    def __str__(self) -> str:
        beyond = ", and the harder target" if self.stretched else ""
        return f"{self.target}: {self.found} {_WORDS[self.met]}{beyond}".replace("  ", " ")


_WORDS = {True: "ok", False: "MISSED", None: "not measured"}


def add_time_over_direct(results: Results) -> None:
    """Add the times of each target minus those of the direct connection, round by round."""
    for measured, added in _OVER_DIRECT.items():
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
    for name, label in [*_ROWS, *_rows_by_streams(results)]:
        by_target = results.values.get(name)
        if by_target:
            cells = [_cell(by_target.get(target, [])) for target in targets]
            lines.append([label, *cells, *_ratios(results, name)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(_line(line, widths) for line in lines)


def _rows_by_streams(results: Results) -> Iterator[tuple[str, str]]:
    for name in results.values:
        kind, _, streams = name.partition("_kb_per_stream_")
        if streams:
            yield name, f"{kind.upper()} KB per stream, {streams} open"
        elif name.startswith(f"{jobs.CPU_EVENT}_"):
            yield name, f"CPU µs per event, {name.split('_')[-2]} open"


def _ratios(results: Results, name: str) -> list[str]:
    if name in _OVER_DIRECT.values():
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
    return [_verdict(aim, aim.find(results)) for part, aims in _AIMS.items() if part in parts for aim in aims]


@dataclass(frozen=True)
class _Aim:
    """What a value must be at most (at least, if `is_least`), and what it would ideally be."""

    name: str
    unit: str
    bound: float
    ideal: float
    find: Callable[[Results], float | None]
    is_least: bool = False

    def holds(self, value: float, bound: float) -> bool:
        return value >= bound if self.is_least else value <= bound


def _verdict(aim: _Aim, value: float | None) -> Verdict:
    sign = "≥" if aim.is_least else "≤"
    target = f"{aim.name} {sign} {aim.bound:g}{aim.unit}"
    if value is None:
        return Verdict(target, "", None)
    return Verdict(target, f"{value:.2f}", aim.holds(value, aim.bound), aim.holds(value, aim.ideal))


def _against(figure: str, base: str, target: str = GATEWAY) -> Callable[[Results], float | None]:
    return lambda results: ratio(results, figure, target, base)


def _median(figure: str) -> Callable[[Results], float | None]:
    def find(results: Results) -> float | None:
        values = results.values.get(figure, {}).get(GATEWAY)
        return statistics.median(values) if values else None

    return find


def _growth(results: Results) -> float | None:
    """CPU per event with the most streams relative to that with the fewest, in the same round."""
    levels = sorted(
        (int(name.split("_")[-2]), name)
        for name, by_target in results.values.items()
        if name.startswith(f"{jobs.CPU_EVENT}_") and GATEWAY in by_target
    )
    if len(levels) < 2:
        return None
    fewest, most = (results.values[name][GATEWAY] for _, name in (levels[0], levels[-1]))
    return statistics.median(many / few for few, many in zip(fewest, most, strict=False))


def _worst_memory(results: Results) -> float | None:
    """Return the gateway's resident KB per stream at the level where it is highest."""
    found = [
        statistics.median(by_target[GATEWAY])
        for name, by_target in results.values.items()
        if name.startswith("rss_kb_per_stream_") and GATEWAY in by_target
    ]
    return max(found, default=None)


_AIMS: dict[str, tuple[_Aim, ...]] = {
    "streams": (
        _Aim("CPU per event, × nginx", "", 1.3, 1.2, _against(jobs.CPU_EVENT, NGINX)),
        _Aim("CPU per event, × Envoy", "", 0.85, 0.75, _against(jobs.CPU_EVENT, ENVOY)),
        _Aim("added latency p50, × nginx", "", 1.0, 1.0, _against(_ADDED_P50, NGINX)),
        _Aim("added latency p99, × nginx", "", 1.2, 1.2, _against(_ADDED_P99, NGINX)),
    ),
    "requests": (
        _Aim("CPU per request, × Envoy", "", 4, 3, _against(jobs.CPU_REQUEST, ENVOY)),
        _Aim(
            "CPU per request with everything on, × Envoy",
            "",
            5,
            4,
            _against(jobs.CPU_REQUEST, ENVOY, EVERYTHING),
        ),
    ),
    "short": (
        _Aim("short streams a second of one core", "", 900, 1200, _median(jobs.SHORT_CORE), is_least=True),
    ),
    "growth": (_Aim("CPU per event with the most streams, × with the fewest", "", 1.1, 1.0, _growth),),
    "memory": (
        _Aim("memory per open stream", " KB", 18, 15, _worst_memory),
        _Aim("memory of an idle worker", " MB", 60, 45, _median(jobs.IDLE_MB)),
    ),
}
