"""Keys whose behaviour does not exist yet: refused when they ask for something, never silently ignored.

Who builds a behaviour deletes its lines here; the schema knows every key already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.config.mistakes import Mistakes
from gateway.config.tree import Node, plain_scalar, with_default


@dataclass(frozen=True, slots=True)
class Missing:
    """One key that is not available yet; `*` in its path stands for every entry."""

    path: tuple[str, ...]
    is_used: Callable[[Node], bool]
    instead: str


def _is(text: str) -> Callable[[Node], bool]:
    return lambda node: (node.text or "").lower() == text


def _is_written(node: Node) -> bool:
    return bool(node.text or node.entries or node.items)


def _has_several(node: Node) -> bool:
    return len(node.items) > 1


def _has_credentials(node: Node) -> bool:
    return any(method.text in ("api_key", "session", "jwt") for method in node.items)


_ROUTE = (
    (("auth",), _has_credentials, "write auth: [anonymous]"),
    (("limits",), _is_written, "write limits: [], or leave it out"),
    (("conversations", "bind"), _is("true"), "write bind: false, or leave it out"),
    (("vars",), _is_written, "write vars: {}, or leave it out"),
)
NOT_YET = (
    Missing(("upstreams", "*", "servers"), _has_several, "write one server"),
    Missing(("auth", "keys_file"), _is_written, "leave it out"),
    Missing(("auth", "jwt"), _is_written, "leave it out"),
    Missing(("auth", "session_tokens"), _is_written, "leave it out"),
    Missing(("limits", "when_store_fails"), _is("closed"), "write when_store_fails: local, or leave it out"),
    Missing(("limits", "shadow"), _is("true"), "write shadow: false, or leave it out"),
    Missing(("metrics", "per_caller"), _is("true"), "write per_caller: false, or leave it out"),
    *(
        Missing((*place, *path), used, other)
        for place in (("defaults",), ("routes", "*"))
        for path, used, other in _ROUTE
    ),
)


def with_available_defaults(root: Node) -> Node:
    """While conversations cannot be bound, a route that does not say `bind` means false."""
    return with_default(root, ("defaults", "conversations", "bind"), plain_scalar("false"))


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
