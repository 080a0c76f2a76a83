"""The configuration as it was written: every value with its line and key path, before it has a type (pure).

Scalars keep their text and how YAML would read it, since `no`, `on`, `0x1F`, `1:30` and `2026-01-01` mean
something else than they say; what a key makes of them is decided in `leaves`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.config.problems import join_path, quote


class Kind(enum.Enum):
    """What YAML (1.1 or 1.2) takes a scalar for."""

    TEXT = enum.auto()  # in quotes, or nothing else
    WHOLE = enum.auto()  # a whole number in plain digits
    NUMBER = enum.auto()  # 0x1F 017 1_000 1:30 1.5 .inf
    BOOLEAN = enum.auto()
    BOOLEAN_WORD = enum.auto()  # yes no on off: true or false in YAML 1.1 only
    DATE = enum.auto()
    NULL = enum.auto()
    EMPTY = enum.auto()
    EXPANDED = enum.auto()  # text from outside
    BROKEN = enum.auto()  # a mistake is already noted


_PLAIN: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (Kind.EMPTY, re.compile(r"")),
    (Kind.NULL, re.compile(r"~|null|Null|NULL")),
    (Kind.BOOLEAN, re.compile(r"true|True|TRUE|false|False|FALSE")),
    (Kind.BOOLEAN_WORD, re.compile(r"yes|no|on|off", re.IGNORECASE)),
    (Kind.WHOLE, re.compile(r"0|[1-9][0-9]{0,17}")),
    (
        Kind.NUMBER,
        re.compile(r"[-+]?(0x[0-9A-Fa-f_]+|0b[01_]+|0o[0-7]+|[0-9][0-9_]*(:[0-5]?[0-9])*(\.[0-9_]*)?)"),
    ),
    (
        Kind.NUMBER,
        re.compile(
            r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|nan)", re.IGNORECASE
        ),
    ),
    (Kind.DATE, re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?")),
)


_USERINFO = re.compile(r"//.*@")


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as written; `text` has its placeholders replaced, `written` still has them."""

    text: str
    kind: Kind
    written: str

    def __repr__(self) -> str:
        return f"<Scalar {self.shown} {self.kind.name}>"

    @property
    def shown(self) -> str:
        """How a mistake may quote it: with placeholders unreplaced, and no password of a URL."""
        text = quote(_USERINFO.sub("//…@", self.written))
        return f"the value of {text}" if self.kind is Kind.EXPANDED else text


def plain_scalar(text: str) -> Scalar:
    """A scalar that was written without quotes."""
    kind = next((kind for kind, pattern in _PLAIN if pattern.fullmatch(text)), Kind.TEXT)
    return Scalar(text, kind, text)


def quoted_scalar(text: str) -> Scalar:
    """A scalar that was written in quotes or as a block."""
    return Scalar(text, Kind.TEXT, text)


@dataclass(frozen=True, slots=True)
class Node:
    """One value, where it stands, and all below it."""

    path: str
    line: int
    value: Scalar | dict[str, Node] | list[Node]

    @property
    def entries(self) -> dict[str, Node]:
        """What is below a mapping; nothing for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """What is below a list; nothing for anything else."""
        return self.value if isinstance(self.value, list) else []

    @property
    def text(self) -> str | None:
        """The text of a scalar, None for all that has no usable one."""
        is_usable = isinstance(self.value, Scalar) and self.value.kind not in (
            Kind.NULL,
            Kind.EMPTY,
            Kind.BROKEN,
        )
        return self.value.text if is_usable and isinstance(self.value, Scalar) else None

    @property
    def is_broken(self) -> bool:
        """Whether a mistake is already noted for this value itself."""
        return isinstance(self.value, Scalar) and self.value.kind is Kind.BROKEN

    def at(self, *keys: str) -> Node | None:
        """The node below mappings, None if it was not written."""
        node: Node | None = self
        for key in keys:
            node = None if node is None else node.entries.get(key)
        return node

    def text_at(self, *keys: str) -> str | None:
        """The text below mappings, None if there is none."""
        node = self.at(*keys)
        return None if node is None else node.text

    def place_of(self, *keys: str) -> tuple[int, str]:
        """Line and path where a key stands, or would stand."""
        node, path = self, self.path
        for key in keys:
            path = join_path(path, key)
            node = node.entries.get(key, node)
        return node.line, path

    def nearest(self, steps: Sequence[str | int]) -> Node:
        """The deepest node on the way."""
        node = self
        for key in steps:
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
        """Mappings, lists and scalars without their places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def with_default(
    node: Node, keys: Sequence[str], value: Scalar | dict[str, Node], *, wins: bool = False
) -> Node:
    """The node with a value below mappings where none was written; what is no mapping stays as it is.

    Args:
        node: where the keys begin.
        keys: the way down.
        value: what stands at its end.
        wins: whether it stands there also when another one was written.
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
