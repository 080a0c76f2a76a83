"""One of several workers: serves the configuration that the supervisor sends, on the shared port.

The supervisor starts it as `python -m gateway.server.worker NUMBER` and talks to it over standard input. If the
supervisor dies, the worker closes the port at once, lets its open requests finish, and exits.
"""

from __future__ import annotations

import asyncio
import faulthandler
import socket
import sys
from functools import partial
from typing import TextIO, cast

import uvloop

from gateway.aio import Tasks
from gateway.config import ConfigError
from gateway.errors import CannotRunError
from gateway.server.ipc import DRAIN, READY, STOP, WorkerConfig, receive
from gateway.server.process import Process
from gateway.server.signals import handle_signals
from gateway.telemetry.logs import Logger, make_logger
from gateway.telemetry.multiprocess import SharedLines, log_lost_metrics, share_values

OK, FAILED = 0, 1


def main() -> int:
    """Serve until a signal or message to stop; returns the exit status."""
    faulthandler.enable()
    channel = socket.fromfd(sys.stdin.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)
    received = receive(channel)
    if received is None:
        return FAILED
    lines = SharedLines(received.line_lock)
    logger = make_logger(
        received.config.logs,
        cast(TextIO, lines),
        has_colors=received.has_colors,
        worker=received.worker,
    )
    if received.metrics is not None:
        share_values(received.metrics, partial(log_lost_metrics, logger))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(channel, received, logger))
        except (CannotRunError, ConfigError) as error:
            logger.error("worker_failed", message=str(error))  # noqa: TRY400 - the message is enough
            return FAILED
    return OK


async def _serve(channel: socket.socket, received: WorkerConfig, logger: Logger) -> None:
    """Serve until the supervisor or a signal ends it.

    A second SIGTERM changes nothing: an operator and the supervisor may have sent one each.
    """
    process = Process(received.config, logger, is_worker=True, known_keys=received.keys)
    handle_signals(process.request_stop, process.stop_now, logger)
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    tasks = Tasks(lambda error: logger.error("bug", error=repr(error), exc_info=error))
    listening = tasks.start(_listen_to_parent(reader, process, logger), "parent")
    try:
        await process.run(lambda _: writer.write(READY))
    finally:
        listening.cancel()
        await tasks.join(0)
        writer.close()


async def _listen_to_parent(parent: asyncio.StreamReader, process: Process, logger: Logger) -> None:
    try:
        while message := await parent.readline():
            if message == DRAIN:
                process.request_stop()
            elif message == STOP:
                process.stop_now()
    except ConnectionError:  # the parent died before it read our last message
        pass
    logger.warning(
        "parent_lost", message="The supervisor of this worker has died; the worker drains and exits."
    )
    process.request_stop(skip_delay=True)


if __name__ == "__main__":
    sys.exit(main())
