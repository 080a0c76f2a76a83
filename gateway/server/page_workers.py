"""A parent and its workers as the live page sees them.

The parent asks each worker over the socket between them: once a second while there is a viewer, and not again before
the worker has answered. A worker whose loop stands still is missing from the page until it goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.page.sample import PageQuestion, Sample
from gateway.page.tables import Numbered
from gateway.server.reload import Reloads
from gateway.server.worker_process import WorkerProcess
from gateway.telemetry.multiprocess import SharedMetrics
from gateway.telemetry.processes import ProcessUsage
from gateway.telemetry.request_counts import Counts

ANSWER_WITHIN = 0.8  # seconds for a sample
END_WITHIN = 5.0  # seconds for the end of a run


class WorkerProcesses:
    """A parent and its workers."""

    def __init__(self, workers: Sequence[WorkerProcess], metrics: SharedMetrics, reloads: Reloads) -> None:
        self._workers = workers
        self._metrics = metrics
        self._reloads = reloads
        self._usage = ProcessUsage()
        self._after: dict[int, int] = {}  # by process id, the last line that is known

    async def samples(self) -> list[Numbered]:
        asked = {
            worker: worker.inquire(
                msgspec.json.encode(PageQuestion(after=self._after.get(worker.pid or 0, 0)))
            )
            for worker in self._workers
            if worker.is_ready and worker.has_answered
        }
        if asked:
            await asyncio.wait(asked.values(), timeout=ANSWER_WITHIN)
        found = []
        for worker, answer in asked.items():
            if answer.done() and answer.result() and worker.pid is not None:
                sample = msgspec.json.decode(answer.result(), type=Sample)
                self._after[worker.pid] = sample.last_line
                found.append(Numbered(str(worker.number), sample))
        pids = [worker.pid for worker in self._workers]
        self._after = {pid: last for pid, last in self._after.items() if pid in pids}
        return found

    def counts(self) -> Counts:
        return self._metrics.counts()

    def processes(self) -> Mapping[str, Mapping[str, Any]]:
        rows: dict[str, Mapping[str, Any]] = {
            "": {
                "pid": os.getpid(),
                "state": "ready",
                "workers": len(self._workers),
                **self._usage.look(os.getpid()),
            }
        }
        for worker in list(self._workers):
            state = "starting" if not worker.is_ready else "stalled" if worker.is_stalled else "ready"
            pid = worker.pid
            usage = {"cpu": None, "memory": None} if pid is None else self._usage.look(pid)
            rows[str(worker.number)] = {"pid": pid, "state": state, **usage}
        self._usage.forget_all_but([row["pid"] for row in rows.values()])
        return rows

    def reload(self) -> Mapping[str, Any]:
        return self._reloads.last()

    async def end(self, worker: str, key: str, operator: str) -> bool:
        found = [one for one in self._workers if str(one.number) == worker and one.is_ready]
        if not found:
            return False
        answer = found[0].inquire(msgspec.json.encode(PageQuestion(key=key, operator=operator)))
        await asyncio.wait([answer], timeout=END_WITHIN)
        return answer.done() and answer.result() == b"true"
