"""`python -m tests.harness.watched_gateway …`: the gateway's command, with a record of its loop.

The record is the file `loop.record` beside the configuration. On SIGUSR1 it logs the line `inside`: what is in progress, and
the most work and lag of its loop since the last such line. Each iteration with much work is a line `long_turn`. The keys
of issuers are fetched often.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from gateway.server.process import Process
from tests.harness.gateway import Lines, RunningGateway
from tests.harness.loop_record import Look, LoopRecord

RECORD = "loop.record"
OFTEN = 0.5  # seconds


class WatchedProcess(Process):
    """The same process, which answers questions about itself."""

    async def start(self) -> None:
        await super().start()
        path = Path(sys.argv[sys.argv.index("--config") + 1]).with_name(RECORD)
        self._record = LoopRecord(path, self._log_long)
        self._record.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._log_inside)

    def _log_long(self, look: Look, places: list[str]) -> None:
        self._logger.warning(
            "long_turn",
            work_ms=round(look.work, 1),
            lag_ms=round(look.lag, 1),
            machine_ms=round(look.machine, 1),
            places=places,
        )

    def _log_inside(self) -> None:
        record, inside = self._record, RunningGateway(self, Lines())
        record.flush()
        self._logger.warning(
            "inside",
            worst_work=round(record.worst_work, 1),
            worst_lag=round(record.worst_lag, 1),
            in_progress={
                "connections": len(inside.connections()),
                "requests": len(inside.exchanges()),
                "calls": len(inside.open_calls()),
                "tasks": len(inside.background_tasks()),
                "locks": inside.held_locks(),
                "limited runs": inside.limited_runs(),
                "body bytes": inside.held_body_bytes(),
                "kept bytes": inside.kept_replies(),
            },
        )
        record.worst_work = record.worst_lag = 0.0


if __name__ == "__main__":
    from gateway import cli
    from gateway.auth import jwks
    from gateway.server import process

    process.Process = WatchedProcess  # type: ignore[misc]  # replaces what `serve` builds
    jwks.RETRY_AFTER = jwks.REFRESH_EVERY = OFTEN
    sys.exit(cli.main())
