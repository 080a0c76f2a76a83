"""A process that serves requests as the live page sees it: a gateway without workers, or a worker that is asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gateway.page.sample import PageQuestion
from gateway.page.sampling import Sampling
from gateway.page.tables import Numbered
from gateway.server.reload import Reloads
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.processes import ProcessUsage
from gateway.telemetry.request_counts import Counts


class OneProcess:
    """A gateway without workers."""

    def __init__(
        self, sampling: Sampling, metrics: Metrics, reloads: Reloads, state: Callable[[], str]
    ) -> None:
        """`state`: empty when ready, else one word that says why not."""
        self._sampling = sampling
        self._metrics = metrics
        self._reloads = reloads
        self._state = state
        self._usage = ProcessUsage()
        self._after = 0

    async def samples(self) -> list[Numbered]:
        sample = await self._sampling.sample(self._after)
        self._after = sample.last_line
        return [Numbered("", sample)]

    def counts(self) -> Counts:
        return self._metrics.counts()

    def processes(self) -> Mapping[str, Mapping[str, Any]]:
        pid = os.getpid()
        return {"": {"pid": pid, "state": self._state() or "ready", **self._usage.look(pid)}}

    def reload(self) -> Mapping[str, Any]:
        return self._reloads.last()

    async def end(self, worker: str, key: str, operator: str) -> bool:
        return not worker and self._sampling.end(key, operator)


async def answer(sampling: Sampling, content: bytes) -> bytes:
    """A worker's answer to a `PageQuestion`."""
    question = msgspec.json.decode(content, type=PageQuestion)
    if question.key:
        return b"true" if sampling.end(question.key, question.operator) else b"false"
    return msgspec.json.encode(await sampling.sample(question.after))
