"""`python -m tests.harness.watched_gateway …`: the gateway's command, with a watchdog on its loop.

On SIGUSR1 it logs the line `inside`: what is in progress, and the longest time for which it kept its loop from turning
since the last such line.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from gateway.server.process import Process
from tests.harness.gateway import Lines, RunningGateway
from tests.harness.loop_lag import LoopLag


class WatchedProcess(Process):
    """The same process, which answers questions about itself."""

    async def start(self) -> None:
        await super().start()
        self._lag = LoopLag()
        self._lag.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._log_inside)

    def _log_inside(self) -> None:
        inside = RunningGateway(self, Lines())
        worst, self._lag.worst = self._lag.worst, 0.0
        self._logger.warning(
            "inside",
            worst_lag=round(worst, 4),
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


if __name__ == "__main__":
    from gateway import cli
    from gateway.server import process

    process.Process = WatchedProcess  # type: ignore[misc]  # replaces what `serve` builds
    sys.exit(cli.main())
