"""Keys whose behaviour does not exist yet: refused when they ask for something, never silently ignored.

Who builds a behaviour deletes its lines here; the schema knows every key already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.config.problems import Mistakes
from gateway.config.tree import Node


@dataclass(frozen=True, slots=True)
class Missing:
    """One key that is not available yet; `*` in its path stands for every entry."""

    path: tuple[str, ...]
    is_used: Callable[[Node], bool]
    instead: str


def _has_several(node: Node) -> bool:
    return len(node.items) > 1


NOT_YET = (Missing(("upstreams", "*", "servers"), _has_several, "write one server"),)


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
