"""The arguments of `init` and `flows`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.config.addresses import Url, parse_origin, parse_url
from gateway.init.files import KEY


def add_init_options(parser: argparse.ArgumentParser) -> None:
    _add_flowise(parser)
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="where to write; default: the current folder"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="every chatflow; default: ask")
    which.add_argument(
        "--flow",
        action="append",
        default=[],
        metavar="NAME",
        help="a chatflow by name or id; may be repeated",
    )
    parser.add_argument("--public", action="store_true", help="no key is needed; default: an API key")
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        type=_sentence(parse_origin),
        metavar="URL",
        help="a page that may call, like https://app.example.com, or * for all; may be repeated",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the files, and write nothing; default: write them"
    )


def add_flows_options(parser: argparse.ArgumentParser) -> None:
    _add_flowise(parser)
    parser.add_argument("--json", action="store_true", help="as a JSON array; default: a table")


def _add_flowise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--flowise", required=True, type=_sentence(_flowise_url), metavar="URL", help="its URL; required"
    )
    parser.add_argument(
        "--api-key", type=_api_key, metavar="KEY", help=f"of Flowise; default: {KEY} of the environment"
    )


def _flowise_url(text: str) -> Url:
    from gateway.upstream.flowise_admin import without_api  # noqa: PLC0415 - large, and not without this option

    url = parse_url(text)
    if shorter := without_api(url):
        raise ValueError(f"has the path of the API, which is added to it: write {shorter}")
    return url


def _api_key(text: str) -> str:
    """The message never repeats the key."""
    from gateway.config.values import header_secret  # noqa: PLC0415 - large, and not without this option

    try:
        return header_secret(text).get_secret_value()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"the key {error}") from None


def _sentence(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Keep the message of a ValueError, which argparse would drop."""

    def read(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f'"{text}" {error}') from None

    return read
