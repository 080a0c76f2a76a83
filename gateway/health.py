"""The `health` command: asks the admin port of a running gateway whether it is ready.

A container engine runs it every few seconds, so it imports little: of the configuration it reads the one key that it
needs, and mistakes elsewhere, like a variable that only the server has, do not matter to it.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import BinaryIO

from gateway.command_errors import CommandError
from gateway.config.addresses import ADMIN_LISTEN, Address, parse_listen
from gateway.config.environment import environment_tree, variable_of
from gateway.config.problems import ConfigError, Mistake, Mistakes
from gateway.config.tree import Node, Scalar
from gateway.config.yaml_reader import read_tree
from gateway.options import add_admin_listen, add_config, unread_file

TIMEOUT = 2.0  # seconds for everything; Docker's own timeout should be longer
_LONGEST = 8 * 1024  # bytes of an answer; that of a gateway has 200
_KEYS = ("admin", "listen")
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where such a listener can be reached
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
_NAME_IT = "name it with --admin-listen"
_REMEDY = "Start the gateway, or name its admin port with --admin-listen or --config."


class NotReadyError(CommandError):
    """No gateway is ready there; the message says why."""


def add_health_options(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_admin_listen(parser, "admin.listen of the configuration")


def health(given: argparse.Namespace, environ: Mapping[str, str], stream: BinaryIO | None = None) -> str:
    """One sentence, if the gateway is ready. `stream`: read in place of the configuration file.

    Raises:
        NotReadyError: it is not, or does not answer.
        ConfigError: the configuration does not say where to ask.
    """
    address: Address = given.admin_listen or admin_address(given.config, environ, stream)
    if address.port == 0:
        message = f"has port 0, and only the log of the gateway says which one it got: {_NAME_IT}"
        raise ConfigError([Mistake("admin.listen", 0, "", message)])
    place = Address(_ANY.get(address.host, address.host), address.port)
    status, text = _ask(place)
    if status == 200:
        return f"The gateway is ready: http://{place}/readyz answers {text or status}."
    if status == 503:
        raise NotReadyError(f"The gateway is not ready: http://{place}/readyz answers {text or status}.")
    raise NotReadyError(
        f"What listens on {place} is not the admin port of a gateway: it answers {status}. {_REMEDY}"
    )


def admin_address(config: Path | None, environ: Mapping[str, str], stream: BinaryIO | None) -> Address:
    """Where `serve` with the same configuration has its admin port.

    Raises:
        ConfigError: there is no configuration, or a mistake in this key.
    """
    mistakes = Mistakes("environment" if config is None else str(config))
    if config is None:
        root: Node | None = environment_tree(environ, mistakes)
    else:
        root = read_tree(config, environ, mistakes, stream=stream)
    node = None if root is None else root.at(*_KEYS)
    address = ADMIN_LISTEN
    if node is not None and isinstance(node.value, Scalar) and node.text is not None:
        try:
            address = parse_listen(node.text)
        except ValueError as error:
            mistakes.add(node.line, node.path, f"{node.value.shown} {error}")
    elif node is not None and not node.is_broken:
        mistakes.add(node.line, node.path, "is not an address with a port: write one like 127.0.0.1:9090")
    where = {"", "admin", "admin.listen"}
    wrong = [mistake for mistake in mistakes.in_order if mistake.key in where and not mistake.is_warning]
    if wrong:
        raise ConfigError(wrong if config is not None else [*map(variable_of, wrong), *unread_file()])
    return address


def _ask(place: Address) -> tuple[int, str]:
    """Status and first line of the readiness.

    Raises:
        NotReadyError: nothing answers, or something else than HTTP.
    """
    due = monotonic() + TIMEOUT
    try:
        with socket.create_connection((place.host, place.port), TIMEOUT) as connection:
            connection.sendall(f"GET /readyz HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while len(answer) < _LONGEST and (left := due - monotonic()) > 0:
                connection.settimeout(left)
                if not (more := connection.recv(_LONGEST)):
                    break
                answer += more
    except OSError as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else _words(error)
        raise NotReadyError(f"No gateway answers on {place}: {why}. {_REMEDY}") from None
    head, _, body = answer.partition(b"\r\n\r\n")
    found = _STATUS.match(head)
    if found is None:
        raise NotReadyError(f"What listens on {place} does not speak HTTP, or not in time. {_REMEDY}")
    return int(found[1]), body.decode("latin-1").partition("\n")[0].strip()


def _words(error: OSError) -> str:
    """Resolver errors have negative numbers."""
    number = error.errno or 0
    return os.strerror(number).lower() if number > 0 else str(error.strerror or error).lower()
