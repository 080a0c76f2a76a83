"""Keys whose behaviour does not exist yet: refused when they ask for something, never silently ignored.

Who builds a behaviour deletes its lines here; the schema knows every key already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.config.mistakes import Mistakes
from gateway.config.texts import is_above_one
from gateway.config.tree import Node


@dataclass(frozen=True, slots=True)
class Missing:
    """One key that is not available yet; `*` in its path stands for every entry."""

    path: tuple[str, ...]
    is_used: Callable[[Node], bool]
    instead: str


def _is(text: str) -> Callable[[Node], bool]:
    return lambda node: (node.text or "").lower() == text


def _is_above_one(node: Node) -> bool:
    return is_above_one(node.text)


def _has_several(node: Node) -> bool:
    return len(node.items) > 1


NOT_YET = (
    Missing(("server", "workers"), _is_above_one, "write workers: 1, or leave it out"),
    Missing(("upstreams", "*", "servers"), _has_several, "write one server"),
    Missing(("metrics", "per_caller"), _is("true"), "write per_caller: false, or leave it out"),
)


def check_availability(root: Node, mistakes: Mistakes) -> None:
    """Note what was asked for and is not there."""
    for missing in NOT_YET:
        for node in _nodes(root, missing.path):
            if missing.is_used(node):
                mistakes.add(node.line, node.path, f"is not available yet: {missing.instead}")


def _nodes(node: Node, path: tuple[str, ...]) -> Iterator[Node]:
    if not path:
        yield node
    elif path[0] == "*":
        for below in (*node.entries.values(), *node.items):
            yield from _nodes(below, path[1:])
    elif (entry := node.at(path[0])) is not None:
        yield from _nodes(entry, path[1:])
