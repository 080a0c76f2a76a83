"""The command line: parses arguments, loads the configuration, prints mistakes, runs the command."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import os
import secrets
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, BinaryIO

import uvloop

from gateway.admission.factory import check_store
from gateway.arguments import command_line
from gateway.auth.keys_edit import KeysFileError
from gateway.auth.keys_file import read_keys
from gateway.config import (
    Config,
    ConfigError,
    Kind,
    Mistake,
    Reading,
    read,
    read_environment,
    schema_json,
    usable,
)
from gateway.errors import CannotRunError
from gateway.health import NotReadyError, health
from gateway.init.refusal import InitRefusedError
from gateway.keys_cli import KeysCommand, KeysRefusedError
from gateway.options import STDIN
from gateway.server.reload import Source, is_readable_again, place, version_of
from gateway.server.service_manager import Systemd
from gateway.server.signals import hold_reloads
from gateway.server.standard_streams import abandon_unwritable_streams, open_missing_streams
from gateway.server.supervisor import supervise
from gateway.telemetry.console import wants_colors
from gateway.telemetry.log_writer import DescriptorLines, LogWriter
from gateway.telemetry.logs import LogOutput

_OF_ENVIRONMENT = (
    "The configuration comes from environment variables, which cannot change while a process runs."
    " Restart it to change them."
)
_OF_INPUT = (
    "The configuration came from standard input, which cannot be read again: name a file to reload it."
)
_OF_PIPE = "The configuration came from a pipe, which cannot be read again: name a file to reload it."
OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns the exit status: 0 done, 1 failed, 2 wrong arguments or configuration, 130 interrupted before it served.
    """
    closed = open_missing_streams()
    try:
        given = command_line().parse_args(arguments)
        given.has_input, given.has_output = "stdin" not in closed, "stdout" not in closed
        if not given.has_output:
            _complain("flowise-gateway: Standard output is closed: what is written to it is lost.")
        status = COMMANDS[given.command](given)
    except ConfigError as error:
        for mistake in error.mistakes:
            _complain(mistake)
        return WRONG
    except (CannotRunError, KeysFileError, KeysRefusedError, InitRefusedError, NotReadyError) as error:
        _complain(f"flowise-gateway: {error}")
        return WRONG if isinstance(error, KeysRefusedError | InitRefusedError) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        abandon_unwritable_streams()
    return status


def _print(text: str) -> None:
    """Write the output of a command.

    Raises:
        CannotRunError: standard output does not take it.
    """
    try:
        print(text, end="", flush=True)  # noqa: T201 - a command's output
    except OSError as error:
        raise CannotRunError(
            f"Cannot write to standard output: {error.strerror}. Send it to a terminal, a file or another program."
        ) from error


def _complain(sentence: object) -> None:
    """Write to standard error, if that takes it; the exit status says the same."""
    with contextlib.suppress(OSError):
        print(sentence, file=sys.stderr)  # noqa: T201 - a command's output


def _serve(given: argparse.Namespace) -> int:
    hold_reloads()
    source = _source(given)
    reading = _read(given)
    config = usable(reading)
    _check_store(config)  # here, as it would fail in every worker
    manager = Systemd.of(os.environ)
    with LogWriter(DescriptorLines()) as lines:
        output = LogOutput(config.logs, lines, has_colors=wants_colors(os.environ))
        logger = output.logger()
        for warning in reading.warnings:
            logger.warning("config_warning", **place(warning))
        if config.server.workers == 1:
            from gateway.server.process import serve  # noqa: PLC0415 - a supervisor does not need it

            _run(serve(config, logger, output, source, manager))
            return OK
    _run(supervise(config, os.environ, source, manager))
    return OK


def _source(given: argparse.Namespace) -> Source:
    """Where the configuration comes from, and how it is read again."""
    if given.config is None:
        return Source("environment", _OF_ENVIRONMENT)
    if given.config is STDIN:
        return Source("standard input", _OF_INPUT)
    if not is_readable_again(given.config):
        return Source(str(given.config), _OF_PIPE)
    version = version_of(given.config)
    return Source(str(given.config), "", given.config, version, partial(_read, given))


def _check(given: argparse.Namespace) -> int:
    reading = _read(given)
    found = [*reading.mistakes, *_mistakes_of_keys(reading)]
    for mistake in found:
        _complain(mistake)
    allowed = {Kind.WARNING, *([Kind.ABSENT] if given.allow_unset else [])}
    if not {mistake.kind for mistake in found} <= allowed:
        return WRONG
    if reading.config is not None:
        _check_store(reading.config)
    count = len(reading.route_names)
    _print(f"{given.config or 'environment'}: ok, {count} route{'' if count == 1 else 's'}\n")
    return OK


def _mistakes_of_keys(reading: Reading) -> list[Mistake]:
    try:
        if reading.keys_file is not None:
            read_keys(reading.keys_file)
    except ConfigError as error:
        return error.mistakes
    return []


def _check_store(config: Config) -> None:
    try:
        check_store(config.limits)
    except ValueError as error:
        raise CannotRunError(str(error)) from None


def _keys(given: argparse.Namespace) -> int:
    if given.shows_key and not given.has_output:
        raise KeysRefusedError("A key is shown only once, on standard output: open it and try again.")
    reading = _read(given)
    if reading.keys_file is None and not reading.of_keys and given.config is None:
        raise KeysRefusedError("GATEWAY_KEYS_FILE is not set: set it to the name of the file, like keys.yaml")
    owner = getattr(given, "owner", None)
    command = KeysCommand(reading, given.config, time.time(), secrets.choice, owner)
    _print(f"{given.call(command, given)}\n")
    return OK


def _init(given: argparse.Namespace) -> int:
    from gateway.init.command import init  # noqa: PLC0415 - for this command alone

    if not given.has_output:
        raise InitRefusedError(
            "The new API key is shown only once, on standard output: open it and try again."
        )
    ask = _ask if sys.stdin.isatty() and sys.stdout.isatty() else None
    _print(f"{init(given, os.environ, ask)}\n")
    return OK


def _ask(prompt: str) -> str:
    """Like `input`, which writes its prompt to standard error on some systems."""
    _print(prompt)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _flows(given: argparse.Namespace) -> int:
    from gateway.init.command import flows  # noqa: PLC0415 - for this command alone

    _print(f"{flows(given, os.environ)}\n")
    return OK


def _doctor(given: argparse.Namespace) -> int:
    from gateway.doctor.command import doctor  # noqa: PLC0415 - for this command alone

    is_plain = "utf" not in (sys.stdout.encoding or "").lower()
    reading = _read(given)
    config = reading.config or usable(reading)  # also one that cannot work
    text, status = doctor(config, given, os.environ, is_plain=is_plain)
    _print(f"{text}\n")
    return status


def _health(given: argparse.Namespace) -> int:
    _print(f"{health(given, os.environ, _stream(given))}\n")
    return OK


def _schema(_: argparse.Namespace) -> int:
    _print(schema_json())
    return OK


def _demo(given: argparse.Namespace) -> int:
    from gateway.demo import demo  # noqa: PLC0415 - as above

    _run(demo(given.listen, _print, has_colors=wants_colors(os.environ)))
    return OK


def _completion(given: argparse.Namespace) -> int:
    import shtab  # noqa: PLC0415 - for this command alone

    parser = command_line()
    for action in _actions(parser):
        if action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # how shtab marks a file name
    _print(f"{shtab.complete(parser, given.shell)}\n")
    return OK


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of all commands below it."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list of them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - nor a public name for commands
            for below in action.choices.values():
                yield from _actions(below)


def _read(given: argparse.Namespace) -> Reading:
    options = {"server.workers": "workers", "server.listen": "listen", "admin.listen": "admin_listen"}
    overrides = {
        key: str(value) for key, name in options.items() if (value := getattr(given, name, None)) is not None
    }
    if given.config is None:
        return read_environment(os.environ, overrides)
    return read(given.config, os.environ, overrides, stream=_stream(given))


def _stream(given: argparse.Namespace) -> BinaryIO | None:
    """What is read in place of the configuration file.

    Raises:
        CannotRunError: standard input is meant, and closed.
    """
    if given.config is not STDIN:
        return None
    if not given.has_input:
        raise CannotRunError("Standard input is closed. Pipe a configuration into it, or name a file.")
    return sys.stdin.buffer


def _run(command: Coroutine[Any, Any, None]) -> None:
    faulthandler.enable()  # a crash of native code leaves its traceback on standard error
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(command)


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = MappingProxyType(
    {
        "serve": _serve,
        "check": _check,
        "schema": _schema,
        "init": _init,
        "flows": _flows,
        "doctor": _doctor,
        "health": _health,
        "keys": _keys,
        "demo": _demo,
        "completion": _completion,
    }
)
