"""The command line: reads arguments and the configuration, says what is wrong with them, starts the rest."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import uvloop

from gateway import __version__
from gateway.config import Address, Config, ConfigError, load, parse_listen, schema_json
from gateway.config.texts import whole
from gateway.errors import CannotRunError
from gateway.telemetry.logs import make_logger
from gateway.workers.supervisor import supervise

OK, FAILED, WRONG = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 failed, 2 wrong arguments or configuration."""
    given = _parser().parse_args(arguments)
    try:
        status: int = given.run(given)
    except ConfigError as error:
        for mistake in error.mistakes:
            print(mistake, file=sys.stderr)  # noqa: T201 - a command's output
        return WRONG
    except CannotRunError as error:
        print(f"flowise-gateway: {error}", file=sys.stderr)  # noqa: T201 - a command's output
        return FAILED
    return status


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
        help="processes that share the port, instead of server.workers",
    )
    serving.add_argument("--listen", type=_address, metavar="HOST:PORT", help="instead of server.listen")
    serving.set_defaults(run=_serve)

    checking = commands.add_parser("check", help="validate a configuration, every mistake at once")
    _add_config(checking)
    checking.set_defaults(run=_check)

    schema = commands.add_parser("schema", help="print the JSON Schema of the configuration")
    schema.set_defaults(run=_schema)

    showing = commands.add_parser("demo", help="the gateway on a built-in Flowise simulator")
    showing.add_argument("--listen", type=_address, default=Address("127.0.0.1", 8080), metavar="HOST:PORT")
    showing.set_defaults(run=_demo)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")


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


def _serve(given: argparse.Namespace) -> int:
    config = _load(given)
    if config.server.workers > 1:
        _run(supervise(config, os.environ))
    else:
        from gateway.serve import serve  # noqa: PLC0415 - the parent of workers is spared what only they need

        _run(serve(config, make_logger(config.logs)))
    return OK


def _check(given: argparse.Namespace) -> int:
    config = _load(given)
    count = len(config.routes)
    print(f"{given.config}: ok, {count} route{'' if count == 1 else 's'}")  # noqa: T201 - a command's output
    return OK


def _schema(_: argparse.Namespace) -> int:
    sys.stdout.write(schema_json())
    return OK


def _demo(given: argparse.Namespace) -> int:
    from gateway.demo import demo  # noqa: PLC0415 - as above

    _run(demo(given.listen))
    return OK


def _load(given: argparse.Namespace) -> Config:
    config = load(given.config, os.environ, workers=getattr(given, "workers", None))
    if (listen := getattr(given, "listen", None)) is None:
        return config
    if listen.meets(config.admin.listen):
        raise CannotRunError(f"--listen {listen} is where the admin listener is; choose another port")
    return config.with_listen(listen)


def _run(life: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(life)
