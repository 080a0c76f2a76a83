"""Options that several commands share, for their parsers."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.config.addresses import Address, parse_listen

STDIN = Path("<stdin>")  # this object stands for standard input; a file of this name is another one


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=_file,
        metavar="FILE",
        help="the configuration, -: standard input; default: environment variables (FLOWISE_URL, GATEWAY_ROUTES, ...)",
    )


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


def _file(name: str) -> Path:
    return STDIN if name == "-" else Path(name)
