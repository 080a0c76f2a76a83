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
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import uvloop

from gateway import __version__
from gateway.auth.keys_edit import KeysFileError
from gateway.auth.keys_file import read_keys
from gateway.config import Address, Config, ConfigError, load, parse_listen, schema_json
from gateway.config.values import parse_duration, positive_duration, whole
from gateway.errors import CannotRunError
from gateway.keys_cli import KeysCommand, KeysRefusedError
from gateway.server.standard_streams import flush_streams, open_missing_streams
from gateway.server.supervisor import supervise
from gateway.telemetry.logs import make_logger

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
DAY = 86400.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns the exit status: 0 done, 1 failed, 2 wrong arguments or configuration, 130 interrupted before it served.
    """
    closed = open_missing_streams()
    try:
        given = _parser().parse_args(arguments)
        given.has_output = "stdout" not in closed
        if not given.has_output:
            _complain("flowise-gateway: Standard output is closed: what is written to it is lost.")
        status: int = given.run(given)
    except ConfigError as error:
        for mistake in error.mistakes:
            _complain(mistake)
        return WRONG
    except (CannotRunError, KeysFileError, KeysRefusedError) as error:
        _complain(f"flowise-gateway: {error}")
        return WRONG if isinstance(error, KeysRefusedError) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        flush_streams()
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flowise-gateway", description="A streaming gateway in front of Flowise."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serving = commands.add_parser("serve", help="run the gateway")
    _add_config(serving)
    serving.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="processes that share the port; overrides server.workers",
    )
    serving.add_argument("--listen", type=_address, metavar="HOST:PORT", help="overrides server.listen")
    serving.set_defaults(run=_serve)

    checking = commands.add_parser("check", help="validate a configuration and print every mistake")
    _add_config(checking)
    checking.set_defaults(run=_check)

    schema = commands.add_parser("schema", help="print the JSON Schema of the configuration")
    schema.set_defaults(run=_schema)

    keys = commands.add_parser("keys", help="create, list, revoke and rotate API keys")
    _add_keys(keys.add_subparsers(required=True, metavar="COMMAND"))

    showing = commands.add_parser("demo", help="run the gateway on a built-in Flowise simulator")
    showing.add_argument("--listen", type=_address, default=Address("127.0.0.1", 8080), metavar="HOST:PORT")
    showing.set_defaults(run=_demo)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")


def _add_keys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    creating = commands.add_parser("create", help="create a key; its secret is shown once")
    creating.add_argument("--name", required=True, metavar="N", help="unique name of the caller")
    creating.add_argument(
        "--routes", type=_names, default=[], metavar="A,B", help="routes that the key may use; default: all"
    )
    creating.add_argument(
        "--expires", type=_seconds(positive_duration), metavar="90d", help="lifetime; default: unlimited"
    )
    creating.set_defaults(
        keys_command=lambda keys, given: keys.create(given.name, given.routes, given.expires)
    )

    listing = commands.add_parser("list", help="list all keys, without their secrets")
    listing.set_defaults(keys_command=lambda keys, _: keys.list())

    revoking = commands.add_parser("revoke", help="revoke a key; its streams and session tokens end at once")
    revoking.add_argument("id", metavar="ID", help="the 8 characters after the key's fgw_")
    revoking.set_defaults(keys_command=lambda keys, given: keys.revoke(given.id))

    rotating = commands.add_parser("rotate", help="replace a key; the old one stays valid for a grace period")
    rotating.add_argument("id", metavar="ID", help="the 8 characters after the key's fgw_")
    rotating.add_argument(
        "--grace",
        type=_seconds(parse_duration),
        default=DAY,
        metavar="24h",
        help="how long the old key stays valid; default: 24h, 0s: not at all",
    )
    rotating.set_defaults(keys_command=lambda keys, given: keys.rotate(given.id, given.grace))

    for command in (creating, listing, revoking, rotating):
        _add_config(command)
        command.set_defaults(run=_keys, shows_key=command in (creating, rotating))


def _address(text: str) -> Address:
    try:
        return parse_listen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}" {error}') from None


def _workers(text: str) -> int:
    try:
        return whole(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}" {error}') from None


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError("has an empty name; write it like support,sales")
    return names


def _seconds(parse: Callable[[str], float]) -> Callable[[str], float]:
    """Keep the message of a ValueError, which argparse would drop."""

    def read(text: str) -> float:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f'"{text}" {error}') from None

    return read


def _serve(given: argparse.Namespace) -> int:
    config = _load(given)
    if config.server.workers > 1:
        _run(supervise(config, os.environ))
    else:
        from gateway.server.process import serve  # noqa: PLC0415 - a supervisor does not need it

        _run(serve(config, make_logger(config.logs)))
    return OK


def _check(given: argparse.Namespace) -> int:
    config = _load(given)
    if config.auth.keys_file is not None:
        read_keys(config.auth.keys_file)  # raises if it has mistakes
    count = len(config.routes)
    _print(f"{given.config}: ok, {count} route{'' if count == 1 else 's'}\n")
    return OK


def _keys(given: argparse.Namespace) -> int:
    if given.shows_key and not given.has_output:
        raise KeysRefusedError("A key is shown only once, on standard output: open it and try again.")
    command = KeysCommand(_load(given), given.config, time.time(), secrets.choice)
    _print(f"{given.keys_command(command, given)}\n")
    return OK


def _schema(_: argparse.Namespace) -> int:
    _print(schema_json())
    return OK


def _demo(given: argparse.Namespace) -> int:
    from gateway.demo import demo  # noqa: PLC0415 - as above

    _run(demo(given.listen, _print))
    return OK


def _load(given: argparse.Namespace) -> Config:
    config = load(given.config, os.environ, workers=getattr(given, "workers", None))
    if (listen := getattr(given, "listen", None)) is None:
        return config
    if listen.meets(config.admin.listen):
        raise CannotRunError(f"The admin listener uses {listen}. Choose another port for --listen.")
    return config.with_listen(listen)


def _run(command: Coroutine[Any, Any, None]) -> None:
    faulthandler.enable()  # a crash of native code leaves its traceback on standard error
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(command)
