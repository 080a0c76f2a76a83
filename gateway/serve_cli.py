"""The command `serve`: one process, or a supervisor of several workers."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import uvloop

from gateway.admission.factory import check_store
from gateway.command_errors import CannotRunError
from gateway.config import Config, Reading, usable
from gateway.options import STDIN
from gateway.server.memory import exempt_what_lasts
from gateway.server.reload import Source, is_readable_again, place, version_of
from gateway.server.service_manager import Systemd
from gateway.telemetry.console import wants_colors
from gateway.telemetry.log_file import check_log_file
from gateway.telemetry.log_writer import DescriptorLines, LogWriter
from gateway.telemetry.logs import LogOutput
from gateway.telemetry.trace_export import check_traces

_OF_ENVIRONMENT = (
    "The configuration comes from environment variables, which cannot change while a process runs."
    " Restart it to change them."
)
_OF_INPUT = (
    "The configuration came from standard input, which cannot be read again: name a file to reload it."
)
_OF_PIPE = "The configuration came from a pipe, which cannot be read again: name a file to reload it."


def serve(given: argparse.Namespace, environ: Mapping[str, str], read: Callable[[], Reading]) -> None:
    """Serve until a signal. `read`: reads the configuration of these arguments.

    Raises:
        CannotRunError: a port is taken, store, log file or traces cannot be used, or a worker keeps crashing.
        ConfigError: the configuration or the keys file has mistakes.
    """
    source = _source(given, read)
    reading = read()
    config = usable(reading)
    check_packages(config)  # here, as they would fail in every worker
    check_log_file(config.logs.file)
    manager = Systemd.of(environ)
    with LogWriter(DescriptorLines()) as lines:
        output = LogOutput(config.logs, lines, has_colors=wants_colors(environ))
        logger = output.logger()
        for warning in reading.warnings:
            logger.warning("config_warning", **place(warning))
        if config.server.workers == 1:
            from gateway.server import process  # noqa: PLC0415 - a supervisor does not need it

            run(process.serve(config, logger, output, source, manager))
            return
    from gateway.server.supervisor import supervise  # noqa: PLC0415 - one process does not need it

    run(supervise(config, environ, source, manager))


def check_packages(config: Config) -> None:
    """Find out, without connecting, whether this process could use the store and export traces.

    Raises:
        CannotRunError: it could not.
    """
    try:
        check_store(config.limits)
        check_traces(config.traces)
    except ValueError as error:
        raise CannotRunError(str(error)) from None


def _source(given: argparse.Namespace, read: Callable[[], Reading]) -> Source:
    """Where the configuration comes from, and how it is read again."""
    if given.config is None:
        return Source("environment", _OF_ENVIRONMENT)
    if given.config is STDIN:
        return Source("standard input", _OF_INPUT)
    if not is_readable_again(given.config):
        return Source(str(given.config), _OF_PIPE)
    return Source(str(given.config), "", given.config, version_of(given.config), read)


def run(command: Coroutine[Any, Any, None]) -> None:
    """Run it to its end, on the loop of production."""
    faulthandler.enable()  # a crash of native code leaves its traceback on standard error
    gc.collect()  # 1 MB of what loading has left, for 40 ms; afterwards nothing else would look for it
    exempt_what_lasts()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(command)
