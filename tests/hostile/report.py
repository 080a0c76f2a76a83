"""What came of an onslaught, and what must be true of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.harness import bounds
from tests.harness.loop_record import Looks, Spread
from tests.harness.well_behaved import BEFORE_THE_END, Late
from tests.hostile.besieged import MIB

STREAMS = 100
NOTHING = Spread(0, 0, 0)
MOST_WORK_MS = 50  # of one iteration of the gateway's loop, on any machine: it is CPU time
# Beyond the time for which it waited for a core; and what an event may be late beyond the same and what its client was
# late to read it. A thread that has the interpreter waits for a core too, and then all others wait for both.
MOST_LAG_MS = LATE_MS = 100 * bounds.SLOWNESS
MEMORY_BACK = 20 * MIB
# 500: of Flowise itself, passed on. `None`: closed without an answer; `broken off`: in the middle of one.
STATUSES = {
    *map(str, (200, 204, 400, 401, 403, 404, 405, 413, 429, 431, 500, 502, 503, 504, None)),
    "broken off",
}
# What the log must have of each neighbour of the gateway that was hostile, and of its recovery.
OF_NEIGHBOURS = (
    "keys_loaded",
    "keys_file_broken",
    "jwks_loaded",
    "jwks_unavailable",
    "limit_store_down",
    "limit_store_up",
)


@dataclass
class Report:
    """What came of it, without the pass to warm up, which only the streams and what the log has include.

    Times in milliseconds, memory in MiB.
    """

    passes: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    timeouts: Counter[str] = field(default_factory=Counter)
    neighbours: dict[str, int] = field(default_factory=dict)
    invalid: list[str] = field(default_factory=list)
    streams: int = 0
    events: int = 0
    tokens: int = 0
    late: Spread = NOTHING
    late_direct: Spread = NOTHING
    late_own: float = 0.0
    slowest: float = 0.0
    work: Spread = NOTHING
    lag: Spread = NOTHING
    own_lag: Spread = NOTHING
    ran_s: float = 0.0
    queued_s: float = 0.0
    memory: list[float] = field(default_factory=list)
    in_progress: dict[str, int] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    lines: Counter[str] = field(default_factory=Counter)
    long_turns: list[dict[str, Any]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    counted: dict[str, float] = field(default_factory=dict)

    @property
    def figures(self) -> str:
        memory = f"{self.memory[0]:.0f} to {self.memory[-1]:.0f}" if self.memory else "?"
        late = f"late {self.late}, without the gateway {self.late_direct}"
        lines = [
            f"{self.passes} passes, {sum(self.statuses.values())} hostile requests {self.statuses}",
            f"504: {dict(self.timeouts)}",
            f"hostile neighbours: {self.neighbours}",
            "milliseconds (99%/99.9%/most):",
            f"  work of an iteration {self.work}, lag {self.lag}, without waiting for a core {self.own_lag}",
            f"  {self.streams} streams with {self.events} events, {late}",
            f"  the latest event without waiting for a core {self.late_own:.1f}; a short stream {self.slowest:.0f}",
            f"its loop worked for {self.ran_s:.0f} s, and waited for a core for {self.queued_s:.0f} s",
            f"memory {memory} MiB; {dict(self.lines)}",
        ]
        return "\n".join([*lines, *(f"long: {line}" for line in self.long_turns)])

    def read_looks(self, looks: Looks) -> None:
        """What the gateway's loop did."""
        self.work = Spread.of(look.work for look in looks.all)
        self.lag = Spread.of(look.lag for look in looks.all)
        self.own_lag = Spread.of(look.own_lag for look in looks.all)
        self.ran_s = sum(look.worked for look in looks.all) / 1000
        self.queued_s = sum(look.queued for look in looks.all) / 1000

    def read_late(self, late: list[Late], gateway: Looks, client: Looks) -> None:
        """The latest event, beyond what the machine and the client's own loop were late meanwhile."""
        self.late_own = max((one.own(gateway, client) for one in late), default=0.0)

    def read_line(self, line: dict[str, Any]) -> None:
        """A line of the gateway's log."""
        event = line["event"]
        self.lines[event] += 1
        if event in ("bug", "library", "log_lines_lost") or line.get("outcome") == "failed":
            self.faults.append(line)
        elif event == "long_turn":
            self.long_turns.append(line)
        elif event == "request" and line.get("route") == "good":
            self.lines["good " + line["outcome"]] += 1
            self.lines["good tokens"] += line["tokens_out"]
            self.lines["good events"] += line["events"]
        elif event == "request" and line["status"] == 504:
            self.timeouts[f"{line['endpoint']} {line['error']}"] += 1


def hold(report: Report) -> None:
    """What must be true of every onslaught."""
    assert not report.invalid
    assert not report.faults
    assert report.statuses.keys() <= STATUSES
    assert report.work.most <= MOST_WORK_MS, report.figures
    assert report.own_lag.most <= MOST_LAG_MS, report.figures
    assert report.late_own <= LATE_MS, report.figures
    assert report.memory[-1] - report.memory[0] < MEMORY_BACK / MIB, report.figures
    assert not any(report.in_progress.values())
    assert not any(report.gauges.values())
    _hold_neighbours(report)
    _hold_counts(report)


def _hold_neighbours(report: Report) -> None:
    """Each was hostile, was noticed, and was trusted again."""
    assert len(report.neighbours) == 3, report.neighbours
    assert all(report.lines[event] for event in OF_NEIGHBOURS), report.lines


def _hold_counts(report: Report) -> None:
    """No stream was cut or miscounted: not in the log, and not in the metrics."""
    events = report.events + BEFORE_THE_END * report.streams
    assert report.streams > STREAMS
    assert report.lines["good ok"] == report.streams
    assert (report.lines["good events"], report.lines["good tokens"]) == (events, report.tokens)
    assert _counted(report, "requests_total") == report.streams
    assert _counted(report, "stream_events_total") == events
    assert _counted(report, "tokens_total", 'type="output"') == report.tokens


def _counted(report: Report, name: str, label: str = "") -> float:
    """The sum of the samples of route `good`."""
    whole = f"flowise_gateway_{name}{{"
    return sum(value for key, value in report.counted.items() if key.startswith(whole) and label in key)
