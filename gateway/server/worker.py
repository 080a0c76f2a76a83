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
from gateway.command_errors import CannotRunError
from gateway.config import ConfigError
from gateway.server.ipc import (
    ABANDON,
    ALIVE,
    ANSWER,
    CLOSING,
    COMMIT,
    DRAIN,
    HAND_OVER,
    PAGE,
    PREPARE,
    READY,
    STOP,
    Proposal,
    WorkerConfig,
    numbered,
    page_message,
    parse_numbered,
    read_content,
    read_proposal,
    receive,
)
from gateway.server.memory import exempt_what_lasts
from gateway.server.page_process import answer
from gateway.server.process import FromParent, Process, Ready
from gateway.server.reload import CannotApplyError
from gateway.server.signals import handle_signals
from gateway.telemetry.log_writer import LogWriter
from gateway.telemetry.logs import Logger, LogOutput
from gateway.telemetry.multiprocess import SharedLines, log_lost_metrics, share_values
from gateway.telemetry.trace_export import check_traces

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
    output = LogOutput(logs, lines, has_colors=received.has_colors)
    logger = output.logger(worker=received.worker)
    if received.metrics is not None:
        share_values(received.metrics, partial(log_lost_metrics, logger))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(channel, received, logger, output))
        except (CannotRunError, ConfigError) as error:
            logger.error("worker_failed", message=str(error))  # noqa: TRY400 - the message is enough
            return FAILED
    return OK


async def _serve(channel: socket.socket, received: WorkerConfig, logger: Logger, output: LogOutput) -> None:
    """Serve until the supervisor or a signal ends it. `output`: of the logger.

    A second SIGTERM changes nothing: an operator and the supervisor may have sent one each.
    """
    try:
        check_traces(received.config.traces)  # before the next line: what it loads lasts too
    except ValueError as error:
        raise CannotRunError(str(error)) from None
    exempt_what_lasts()
    sockets = [socket.socket(fileno=number) for number in received.sockets]
    parent = FromParent(sockets, received.keys)
    process = Process(received.config, logger, parent=parent, output=output)
    handle_signals(process.request_stop, process.stop_now, partial(_ignore_reload, logger), logger)
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    tasks = Tasks(lambda error: logger.error("bug", error=repr(error), exc_info=error))
    rollout = RolloutWorker(process, writer, tasks)
    listening = tasks.start(_listen_to_parent(reader, process, rollout, logger), "parent")
    process.gateway.watch(_heartbeat(writer))
    process.gateway.metrics.worker = str(received.worker)
    process.on_closing = partial(_say_closing, writer)
    try:
        await process.run(lambda _: rollout.open())
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


def _ignore_reload(logger: Logger) -> None:
    logger.warning("reload_ignored", message="This is a worker. Send SIGHUP to its parent process.")


async def _listen_to_parent(
    parent: asyncio.StreamReader, process: Process, rollout: RolloutWorker, logger: Logger
) -> None:
    try:
        while message := await parent.readline():
            if message == DRAIN:
                process.request_stop()
            elif message == HAND_OVER:
                process.request_stop(skip_delay=True)
            elif message == STOP:
                process.stop_now()
            else:
                await rollout.on_message(message, parent)
    except (ConnectionError, asyncio.IncompleteReadError):  # the parent died before it read our last message
        pass
    logger.warning(
        "parent_lost", message="The supervisor of this worker has died; the worker drains and exits."
    )
    process.request_stop(skip_delay=True)


class RolloutWorker:
    """A worker's side of a change of the configuration; see `rollout`."""

    def __init__(self, process: Process, parent: asyncio.StreamWriter, tasks: Tasks) -> None:
        self._process = process
        self._parent = parent
        self._tasks = tasks
        self._is_open = asyncio.Event()
        self._prepared: dict[int, Ready] = {}  # one at most
        self._abandoned = 0  # the last number

    def open(self) -> None:
        """The worker serves: what was asked meanwhile is answered now."""
        self._parent.write(READY)
        self._is_open.set()

    async def on_message(self, message: bytes, parent: asyncio.StreamReader) -> None:
        """Act on a message with a number; a proposal is read from `parent`."""
        word, number, _ = parse_numbered(message)
        if word == PREPARE:
            proposal = await read_proposal(parent)
            self._tasks.start(self._prepare(number, proposal), "configuration")
        elif word == COMMIT:
            self._process.commit(self._prepared.pop(number))
            self._parent.write(numbered(ANSWER, number))
        elif word == ABANDON:
            self._abandoned = number
            await self._abandon(number)
        elif word == PAGE:
            content = await read_content(parent)
            self._tasks.start(self._answer_page(number, content), "page")

    async def _answer_page(self, number: int, content: bytes) -> None:
        """Answer a question of the live page; with nothing if that fails, so that the parent asks again."""
        answered = b""
        try:
            answered = await answer(self._process.gateway.sampling, content)
        finally:
            if not self._parent.is_closing():
                self._parent.write(page_message(number, answered))

    async def _abandon(self, number: int) -> None:
        if (prepared := self._prepared.pop(number, None)) is not None:
            await self._process.abandon(prepared)

    async def _prepare(self, number: int, proposal: Proposal) -> None:
        await self._is_open.wait()
        reason = ""
        try:
            self._prepared[number] = await self._process.prepare(proposal.config, proposal.keys)
        except (CannotApplyError, ConfigError) as error:
            reason = str(error)
        if number <= self._abandoned:  # it took too long
            await self._abandon(number)
        if not self._parent.is_closing():
            self._parent.write(numbered(ANSWER, number, reason))


if __name__ == "__main__":
    sys.exit(main())
