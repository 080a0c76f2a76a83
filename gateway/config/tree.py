"""The configuration as written: every value with its line and key path, before it has a type (pure).

Scalars keep their text and what YAML takes it for: `no`, `on`, `0x1F`, `1:30` and `2026-01-01` are not text to YAML.
Whether a key accepts them is decided in `types`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.config.problems import join_path, quote

UNWANTED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # in values and keys


class ScalarKind(enum.Enum):
    """What YAML (1.1 or 1.2) takes a scalar for."""

    TEXT = enum.auto()  # in quotes, or nothing else
    WHOLE = enum.auto()  # a whole number in plain digits
    NUMBER = enum.auto()  # 0x1F 017 1_000 1:30 1.5 .inf
    BOOLEAN = enum.auto()
    BOOLEAN_WORD = enum.auto()  # yes no on off: true or false in YAML 1.1 only
    DATE = enum.auto()
    NULL = enum.auto()
    EMPTY = enum.auto()
    EXPANDED = enum.auto()  # text with a placeholder replaced
    BROKEN = enum.auto()  # a mistake is already noted


_PLAIN: tuple[tuple[ScalarKind, re.Pattern[str]], ...] = (
    (ScalarKind.EMPTY, re.compile(r"")),
    (ScalarKind.NULL, re.compile(r"~|null|Null|NULL")),
    (ScalarKind.BOOLEAN, re.compile(r"true|True|TRUE|false|False|FALSE")),
    (ScalarKind.BOOLEAN_WORD, re.compile(r"yes|no|on|off", re.IGNORECASE)),
    (ScalarKind.WHOLE, re.compile(r"0|[1-9][0-9]{0,17}")),
    (
        ScalarKind.NUMBER,
        re.compile(r"[-+]?(0x[0-9A-Fa-f_]+|0b[01_]+|0o[0-7]+|[0-9][0-9_]*(:[0-5]?[0-9])*(\.[0-9_]*)?)"),
    ),
    (
        ScalarKind.NUMBER,
        re.compile(
            r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|nan)", re.IGNORECASE
        ),
    ),
    (ScalarKind.DATE, re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?")),
)


_USERINFO = re.compile(r"//.*@")


class Scalar(Struct, frozen=True):
    """One value; `text` has its placeholders replaced, `written` still has them."""

    text: str
    kind: ScalarKind
    written: str

    def __repr__(self) -> str:
        return f"<Scalar {self.shown} {self.kind.name}>"

    @property
    def quoted(self) -> str:
        """The value as it was written, in quotes: placeholders are not replaced, credentials in a URL are hidden."""
        return quote(_USERINFO.sub("//…@", self.written))

    @property
    def shown(self) -> str:
        """The value for a message."""
        return f"the value of {self.quoted}" if self.kind is ScalarKind.EXPANDED else self.quoted


def plain_scalar(text: str) -> Scalar:
    """A scalar written without quotes."""
    kind = next((kind for kind, pattern in _PLAIN if pattern.fullmatch(text)), ScalarKind.TEXT)
    return Scalar(text, kind, text)


def quoted_scalar(text: str) -> Scalar:
    """A scalar written in quotes or as a block."""
    return Scalar(text, ScalarKind.TEXT, text)


class Node(Struct, frozen=True):
    """One value, its place, and everything below it.

    Attributes:
        path: the key's path, like `routes[0].name`.
        line: counted from 1.
        value: a scalar, a mapping or a list.
        is_partial: whether keys are missing from the mapping for which a mistake is already noted.
    """

    path: str
    line: int
    value: Scalar | dict[str, Node] | list[Node]
    is_partial: bool = False

    @property
    def entries(self) -> dict[str, Node]:
        """The values of a mapping by key; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The entries of a list; empty for anything else."""
        return self.value if isinstance(self.value, list) else []

    @property
    def text(self) -> str | None:
        """The text of a scalar; None if it is null, empty or broken, or not a scalar."""
        if not isinstance(self.value, Scalar):
            return None
        has_none = self.value.kind in (ScalarKind.NULL, ScalarKind.EMPTY, ScalarKind.BROKEN)
        return None if has_none else self.value.text

    @property
    def is_broken(self) -> bool:
        """Whether a mistake is already noted for this value itself."""
        return isinstance(self.value, Scalar) and self.value.kind is ScalarKind.BROKEN

    def at(self, *keys: str) -> Node | None:
        """The node at a path of keys; None if it was not written."""
        node: Node | None = self
        for key in keys:
            node = None if node is None else node.entries.get(key)
        return node

    def text_at(self, *keys: str) -> str | None:
        """The text at a path of keys; None if there is none."""
        node = self.at(*keys)
        return None if node is None else node.text

    def place_of(self, *keys: str) -> tuple[int, str]:
        """Line and path of a key; if it is missing, the line of the mapping that it belongs to."""
        node, path = self, self.path
        for key in keys:
            path = join_path(path, key)
            node = node.entries.get(key, node)
        return node.line, path

    def nearest(self, location: Sequence[str | int]) -> Node:
        """The deepest node on the way to a location."""
        node = self
        for key in location:
            below: Node | None = None
            if isinstance(key, str):
                below = node.entries.get(key)
            elif key < len(node.items):
                below = node.items[key]
            if below is None:
                return node
            node = below
        return node

    def plain(self) -> Any:
        """The same as dicts, lists and scalars, without lines and paths."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def with_default(
    node: Node, keys: Sequence[str], value: Scalar | dict[str, Node] | list[Node], *, wins: bool = False
) -> Node:
    """The node with a value at a path of keys; what is not a mapping stays as it is.

    Args:
        node: where the path begins.
        keys: the path.
        value: the value.
        wins: whether it replaces a value that was written.
    """
    if not isinstance(node.value, dict):
        return node
    key, *rest = keys
    line, path = node.place_of(key)
    below = node.value.get(key)
    if rest:
        below = with_default(below or Node(path, line, {}), rest, value, wins=wins)
    elif below is None or wins:
        below = Node(path, line, value)
    return replace(node, value={**node.value, key: below})


def dismantle(root: Node) -> None:
    """Free a tree node by node: as a whole, a large one would keep the interpreter from other threads for 40 ms."""
    waiting = [root]
    while waiting:
        below = waiting.pop().value
        if isinstance(below, dict):
            waiting.extend(below.values())
            below.clear()
        elif isinstance(below, list):
            waiting.extend(below)
            below.clear()
