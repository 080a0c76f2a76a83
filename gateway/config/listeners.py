"""Where the public port listens: TCP addresses and paths of Unix sockets (pure).

As in `addresses`, every `ValueError` is the rest of a sentence that begins with the text that was parsed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.config.addresses import Address, parse_listen

LISTENER_WANTED = "an address like 127.0.0.1:8080 or unix:/run/flowise-gateway/http.sock"
MODE_WANTED = "permissions like 0660"
MODE_PATTERN = "0?[0-7]{3}"
LONGEST_PATH = 107  # bytes; the system has 108 with a zero at the end
_SCHEME = "unix:"
_SOCKET_EXAMPLE = "write one like unix:/run/flowise-gateway/http.sock"
_MAY_CONNECT = 0o222  # to connect is to write


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket in the file system, by its absolute path."""

    path: str

    def __str__(self) -> str:
        return f"{_SCHEME}{self.path}"


ListenAddress = Address | UnixAddress


def parse_listener(text: str) -> ListenAddress:
    """HOST:PORT, or `unix:` and an absolute path.

    Raises:
        ValueError: neither.
    """
    if not text.startswith(_SCHEME):
        return parse_listen(text)
    path = text.removeprefix(_SCHEME)
    if not path.startswith("/") or path.startswith("//"):
        raise ValueError(f"is not the absolute path of a socket: {_SOCKET_EXAMPLE}")
    if path.endswith(("/", "/.", "/..")) or not path.isprintable():
        raise ValueError(f"has no name of a file at its end: {_SOCKET_EXAMPLE}")
    if len(path.encode()) > LONGEST_PATH:
        raise ValueError(f"is too long for a socket: write a path of {LONGEST_PATH} bytes or less")
    return UnixAddress(path)


def meet(one: ListenAddress, other: ListenAddress) -> bool:
    """Whether the two cannot be opened at the same time."""
    if isinstance(one, Address) and isinstance(other, Address):
        return one.meets(other)
    return one == other


def parse_mode(text: str) -> int:
    """The permissions of a file, in octal digits.

    Raises:
        ValueError: they are none, or let no process connect.
    """
    if not re.fullmatch(MODE_PATTERN, text):
        raise ValueError("are not permissions: write three octal digits, like 0660")
    mode = int(text, 8)
    if not mode & _MAY_CONNECT:
        raise ValueError("let no process connect, which needs the right to write: write for example 0660")
    return mode


def format_mode(mode: int) -> str:
    return f"{mode:04o}"
