"""Options that several commands share, for their parsers."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.config.addresses import Address, parse_listen
from gateway.config.listeners import ListenAddress, parse_listener
from gateway.config.problems import Mistake

STDIN = Path("<stdin>")  # this object stands for standard input; a file of this name is another one
USUAL_NAMES = ("gateway.yaml", "gateway.yml")  # the first is the one that `init` writes


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=_file,
        metavar="FILE",
        help="the configuration, -: standard input; default: environment variables (FLOWISE_URL, GATEWAY_ROUTES, ...)",
    )


def unread_file() -> list[Mistake]:
    """For a command that found no usable configuration in the environment: the file beside it that it did not read."""
    found = [name for name in USUAL_NAMES if Path(name).is_file()][:1]
    return [
        Mistake("environment", 0, "", f"{name} in this folder was not read: write --config {name} to use it")
        for name in found
    ]


def add_admin_listen(parser: argparse.ArgumentParser, default: str) -> None:
    """`default`: what counts where the option is not given."""
    parser.add_argument(
        "--admin-listen",
        type=listen_address,
        metavar="HOST:PORT",
        help=f"address of the admin port; default: {default}",
    )


def listen_address(text: str) -> Address:
    try:
        return parse_listen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}" {error}') from None


def listener(text: str) -> ListenAddress:
    try:
        return parse_listener(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}" {error}') from None


def _file(name: str) -> Path:
    return STDIN if name == "-" else Path(name)
