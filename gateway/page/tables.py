"""The state that the page shows, as tables of rows by key, and what has changed between two states (pure).

A run in progress changes its tokens, the rest of most rows stays: only rows that have changed are sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.page.sample import MOST_CALLERS, MOST_RUNS, MOST_SERVERS, MOST_WAITING, CallerUse, Run, Sample

Row = Any  # what msgspec can write as JSON
Table = Mapping[str, Row]
Tables = Mapping[str, Table]
_WAITING = ("before", "conversation")
NOTHING: Tables = {}


class Numbered(Struct, frozen=True):
    """A sample and the number of its worker; "" if the gateway is one process."""

    worker: str
    sample: Sample


def changes(before: Tables, after: Tables) -> dict[str, dict[str, Any]]:
    """By table, the rows to set and the keys that are gone; without the tables that have not changed."""
    found: dict[str, dict[str, Any]] = {}
    for name, table in after.items():
        old = before.get(name, {})
        rows = {key: row for key, row in table.items() if key not in old or old[key] != row}
        gone = [key for key in old if key not in table]
        if rows or gone or name not in before:
            found[name] = {"set": rows, "gone": gone}
    return found


def run_table(samples: Iterable[Numbered]) -> Table:
    """The oldest and the newest runs of all processes, and the requests that wait for longest."""
    every = [(one.worker, run) for one in samples for run in one.sample.runs]
    waiting = sorted((one for one in every if one[1].stage in _WAITING), key=_since)[:MOST_WAITING]
    runs = sorted((one for one in every if one[1].stage not in _WAITING), key=_since)
    if len(runs) > 2 * MOST_RUNS:
        runs = [*runs[:MOST_RUNS], *runs[-MOST_RUNS:]]
    return {f"{worker}:{run.key}": {**_fields(run), "worker": worker} for worker, run in (*waiting, *runs)}


def _since(one: tuple[str, Run]) -> float:
    return one[1].since


def split_key(key: str) -> tuple[str, str]:
    """Of a row of `run_table`: the worker, and the key of the run there."""
    worker, _, run = key.partition(":")
    return worker, run


def caller_table(samples: Sequence[Numbered]) -> Table:
    """What each caller has used on each route, in all processes together, the latest first."""
    found: dict[tuple[str, str], CallerUse] = {}
    for use in (use for one in samples for use in one.sample.callers):
        key = use.route, use.caller
        found[key] = use if key not in found else _together(found[key], use)
    latest = sorted(found.items(), key=lambda item: item[1].last, reverse=True)[:MOST_CALLERS]
    return {f"{route}\n{caller}": use for (route, caller), use in latest}


def _together(one: CallerUse, other: CallerUse) -> CallerUse:
    """`limits`: of the process that has seen the caller last. All of them ask the same store."""
    latest = max(one, other, key=lambda use: use.last)
    return CallerUse(
        one.route,
        one.caller,
        one.requests + other.requests,
        one.not_ok + other.not_ok,
        one.tokens_in + other.tokens_in,
        one.tokens_out + other.tokens_out,
        latest.last,
        latest.limits,
    )


def server_table(samples: Iterable[Numbered]) -> Table:
    """Each server, with the number of processes that see it and of those for which it is up."""
    found: dict[str, dict[str, Any]] = {}
    for state in (state for one in samples for state in one.sample.servers):
        key = f"{state.upstream}\n{state.server}\n{state.address}"
        row = found.get(key)
        if row is None and len(found) < MOST_SERVERS:
            row = found[key] = {**_fields(state), "runs": 0, "seen_by": 0, "up_for": 0}
        if row is not None:
            row["runs"] += state.runs
            row["seen_by"] += 1
            row["up_for"] += state.is_up
            row["reason"] = row["reason"] or state.reason
    return found


def store_row(samples: Iterable[Numbered]) -> dict[str, Any]:
    """Whether there is a shared store, and how many processes reach it."""
    states = [one.sample.is_store_up for one in samples]
    shared = [state for state in states if state is not None]
    return {"is_shared": bool(shared), "up_for": sum(shared), "seen_by": len(shared)}


def _fields(row: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(row)
