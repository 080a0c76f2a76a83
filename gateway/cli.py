"""The command line: parses arguments, loads the configuration, prints mistakes, runs the command.

A command imports what it needs when it runs: all that `serve` loads takes 0.6 s of CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

from msgspec.structs import replace

from gateway.arguments import command_line
from gateway.command_errors import WRONG, CannotRunError, CommandError
from gateway.config.problems import ConfigError, Kind, Mistake
from gateway.options import STDIN, unread_file
from gateway.server.standard_streams import abandon_unwritable_streams, open_missing_streams

if TYPE_CHECKING:
    from gateway.config import Reading

OK, INTERRUPTED = 0, 130


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
    except CommandError as error:
        _complain(f"flowise-gateway: {error}")
        return error.status
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
    from gateway.server.signals import hold_reloads  # noqa: PLC0415 - for this command alone

    hold_reloads()  # before what takes time to load
    from gateway.serve_cli import serve  # noqa: PLC0415 - for this command alone

    serve(given, os.environ, partial(_read, given))
    return OK


def _check(given: argparse.Namespace) -> int:
    reading = _read(given)
    found = [*reading.mistakes, *_mistakes_of_keys(reading)]
    for mistake in found:
        _complain(mistake)
    allowed = {Kind.WARNING, *([Kind.ABSENT] if given.allow_unset else [])}
    if not {mistake.kind for mistake in found} <= allowed:
        return WRONG
    if reading.config is not None and (
        reading.config.limits.store.is_shared or reading.config.traces is not None
    ):
        from gateway.serve_cli import check_packages  # noqa: PLC0415 - large, and not without store or traces

        check_packages(reading.config)
    count = len(reading.route_names)
    _print(f"{given.config or 'environment'}: ok, {count} route{'' if count == 1 else 's'}\n")
    return OK


def _mistakes_of_keys(reading: Reading) -> list[Mistake]:
    if reading.keys_file is None:
        return []
    from gateway.auth.keys_file import read_keys  # noqa: PLC0415 - for this command alone

    try:
        read_keys(reading.keys_file)
    except ConfigError as error:
        return error.mistakes
    return []


def _keys(given: argparse.Namespace) -> int:
    from gateway.keys_cli import KeysCommand, KeysRefusedError  # noqa: PLC0415 - for this command alone

    if given.shows_key and not given.has_output:
        raise KeysRefusedError("A key is shown only once, on standard output: open it and try again.")
    reading = _read(given)
    if reading.keys_file is None and not reading.of_keys and given.config is None:
        hint = "".join(f". {mistake.message}" for mistake in unread_file())
        what = "GATEWAY_KEYS_FILE is not set: set it to the name of the file, like keys.yaml, or write --config FILE"
        raise KeysRefusedError(f"{what}{hint}")
    owner = getattr(given, "owner", None)
    command = KeysCommand(reading, given.config, time.time(), secrets.choice, owner)
    _print(f"{given.call(command, given)}\n")
    return OK


def _init(given: argparse.Namespace) -> int:
    from gateway.init.command import init  # noqa: PLC0415 - for this command alone
    from gateway.init.refusal import InitRefusedError  # noqa: PLC0415 - as above

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
    from gateway.config import usable  # noqa: PLC0415 - as for `_read`
    from gateway.doctor.command import doctor  # noqa: PLC0415 - for this command alone

    is_plain = "utf" not in (sys.stdout.encoding or "").lower()
    reading = _read(given)
    config = reading.config or usable(reading)  # also one that cannot work
    text, status = doctor(config, given, os.environ, is_plain=is_plain)
    _print(f"{text}\n")
    return status


def _health(given: argparse.Namespace) -> int:
    from gateway.health import health  # noqa: PLC0415 - for this command alone

    _print(f"{health(given, os.environ, _stream(given))}\n")
    return OK


def _schema(_: argparse.Namespace) -> int:
    from gateway.config import schema_json  # noqa: PLC0415 - for this command alone

    _print(schema_json())
    return OK


def _demo(given: argparse.Namespace) -> int:
    from gateway.demo import demo  # noqa: PLC0415 - for this command alone
    from gateway.serve_cli import run  # noqa: PLC0415 - as above
    from gateway.telemetry.console import wants_colors  # noqa: PLC0415 - as above

    run(demo(given.listen, _print, has_colors=wants_colors(os.environ)))
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
    from gateway.config import read, read_environment  # noqa: PLC0415 - types take long to load

    options = {"server.workers": "workers", "server.listen": "listen", "admin.listen": "admin_listen"}
    overrides = {
        key: [*map(str, value)] if isinstance(value, list) else str(value)
        for key, name in options.items()
        if (value := getattr(given, name, None)) is not None
    }
    if given.config is None:
        return _with_unread_file(read_environment(os.environ, overrides))
    return read(given.config, os.environ, overrides, stream=_stream(given))


def _with_unread_file(reading: Reading) -> Reading:
    """With a hint behind the mistakes that keep the command from working, if there are some."""
    if all(mistake.is_warning for mistake in reading.mistakes):
        return reading
    more = unread_file()
    of_keys = (*reading.of_keys, *more) if reading.of_keys else ()
    return replace(reading, mistakes=(*reading.mistakes, *more), of_keys=of_keys)


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
