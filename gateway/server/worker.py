"""One of several workers: it serves what its parent tells it, on the port that all share, until told to end.

Its parent starts it as `python -m gateway.server.worker NUMBER` and talks to it over standard input. When the parent
is gone, a worker closes the port at once, lets its open streams finish, and ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import TextIO, cast

import uvloop

from gateway.aio import Tasks
from gateway.config import ConfigError
from gateway.errors import CannotRunError
from gateway.server.ipc import DRAIN, READY, STOP, WorkerConfig, received
from gateway.server.process import Process
from gateway.telemetry.logs import Logger, make_logger
from gateway.telemetry.multiprocess import SharedLines, abandon

ENDED, FAILED = 0, 1


def main() -> int:
    """Run; returns the exit status."""
    channel = socket.fromfd(sys.stdin.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)
    briefing = received(channel)
    if briefing is None:
        return FAILED
    with (
        SharedLines(briefing.folder) as lines,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        logger = make_logger(briefing.config.logs, cast(TextIO, lines), worker=briefing.worker)
        try:
            is_orphan = runner.run(_work(channel, briefing, logger))
        except (CannotRunError, ConfigError) as error:
            logger.error("worker_failed", message=str(error))  # noqa: TRY400 - the sentence says it all
            return FAILED
        if is_orphan:
            abandon(briefing.folder, os.getpid())
    return ENDED


async def _work(channel: socket.socket, briefing: WorkerConfig, logger: Logger) -> bool:
    """Serve until the parent says so, or a signal; a second signal changes nothing, as both may mean the same.

    Tells whether the parent was lost.
    """
    process = Process(briefing.config, logger, is_worker=True, known_keys=briefing.keys)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.end)
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    tasks = Tasks(lambda error: logger.error("bug", error=repr(error), exc_info=error))
    obeying = tasks.start(_listen_to_parent(reader, process, logger), "obey")
    try:
        await process.run(lambda _: writer.write(READY))
        return obeying.done()
    finally:
        obeying.cancel()
        await tasks.join(0)
        writer.close()


async def _listen_to_parent(parent: asyncio.StreamReader, process: Process, logger: Logger) -> None:
    try:
        while word := await parent.readline():
            if word == DRAIN:
                process.end()
            elif word == STOP:
                process.hurry()
    except ConnectionError:  # it died before it read our last word
        pass
    logger.warning("parent_lost", message="the parent of this worker has died; it ends")
    process.end(at_once=True)


if __name__ == "__main__":
    sys.exit(main())
