"""One of several workers: serves the configuration that the supervisor sends, on the shared port.

The supervisor starts it as `python -m gateway.server.worker NUMBER` and talks to it over standard input. If the
supervisor dies, the worker closes the port at once, lets its open requests finish, and exits.
"""

from __future__ import annotations

import asyncio
import faulthandler
import socket
import sys
from collections.abc import Callable
from functools import partial

import uvloop

from gateway.aio import Tasks
from gateway.config import ConfigError
from gateway.errors import CannotRunError
from gateway.server.ipc import ALIVE, CLOSING, DRAIN, HAND_OVER, READY, STOP, WorkerConfig, receive
from gateway.server.process import Process
from gateway.server.signals import handle_signals
from gateway.telemetry.log_writer import LogWriter
from gateway.telemetry.logs import Logger, make_logger
from gateway.telemetry.multiprocess import SharedLines, log_lost_metrics, share_values

OK, FAILED = 0, 1
ALIVE_EVERY = 1.0  # seconds


def main() -> int:
    """Serve until a signal or message to stop; returns the exit status."""
    faulthandler.enable()
    channel = socket.fromfd(sys.stdin.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)
    received = receive(channel)
    if received is None:
        return FAILED
    with LogWriter(SharedLines(received.line_lock)) as lines:
        return _run(channel, received, lines)


def _run(channel: socket.socket, received: WorkerConfig, lines: LogWriter) -> int:
    """As `main`, with a log."""
    logs = received.config.logs
    logger = make_logger(logs, lines, has_colors=received.has_colors, worker=received.worker)
    if received.metrics is not None:
        share_values(received.metrics, partial(log_lost_metrics, logger))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(channel, received, logger, lines))
        except (CannotRunError, ConfigError) as error:
            logger.error("worker_failed", message=str(error))  # noqa: TRY400 - the message is enough
            return FAILED
    return OK


async def _serve(channel: socket.socket, received: WorkerConfig, logger: Logger, lines: LogWriter) -> None:
    """Serve until the supervisor or a signal ends it. `lines`: of the logger.

    A second SIGTERM changes nothing: an operator and the supervisor may have sent one each.
    """
    sockets = [socket.socket(fileno=number) for number in received.sockets]
    process = Process(received.config, logger, sockets=sockets, known_keys=received.keys, lines=lines)
    handle_signals(process.request_stop, process.stop_now, logger)
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    tasks = Tasks(lambda error: logger.error("bug", error=repr(error), exc_info=error))
    listening = tasks.start(_listen_to_parent(reader, process, logger), "parent")
    process.gateway.watch(_heartbeat(writer))
    process.gateway.metrics.worker = str(received.worker)
    process.on_closing = partial(_say_closing, writer)
    try:
        await process.run(lambda _: writer.write(READY))
    finally:
        listening.cancel()
        await tasks.join(0)
        writer.close()


def _say_closing(writer: asyncio.StreamWriter) -> None:
    if not writer.is_closing():
        writer.write(CLOSING)


def _heartbeat(writer: asyncio.StreamWriter) -> Callable[[float], None]:
    """A callback of the coarse timer. A parent that does not read gets no more."""
    next_at = 0.0

    def tick(now: float) -> None:
        nonlocal next_at
        if now >= next_at and not writer.is_closing() and not writer.transport.get_write_buffer_size():
            next_at = now + ALIVE_EVERY
            writer.write(ALIVE)

    return tick


async def _listen_to_parent(parent: asyncio.StreamReader, process: Process, logger: Logger) -> None:
    try:
        while message := await parent.readline():
            if message == DRAIN:
                process.request_stop()
            elif message == HAND_OVER:
                process.request_stop(skip_delay=True)
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
