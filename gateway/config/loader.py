"""From a file to a `Config`, in the order things happen; each step notes its mistakes and goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.config import values as units
from gateway.config.checks import check
from gateway.config.model import AuthSettings, Config, ServerSettings
from gateway.config.problems import ConfigError, Mistakes
from gateway.config.route import RouteKeys
from gateway.config.tree import Kind, Node, Scalar, plain_scalar, quoted_scalar, with_default
from gateway.config.validation import validate
from gateway.config.yaml_reader import read_tree

_DEFAULT_SERVER_MAX_BODY = ServerSettings().max_body
_DEFAULT_ROUTE_MAX_BODY = RouteKeys().max_body


def with_defaults(root: Node) -> Node:
    """Each route over `defaults`: mappings merge key by key at every depth, all else is replaced whole."""
    routes, defaults = root.at("routes"), root.at("defaults")
    if routes is None or defaults is None or not isinstance(routes.value, list):
        return root
    merged = replace(routes, value=[_over(defaults, route) for route in routes.value])
    return replace(root, value={**root.entries, "routes": merged})


def _over(below: Node, above: Node) -> Node:
    if not isinstance(below.value, dict) or not isinstance(above.value, dict):
        return above
    entries = dict(below.value)
    for key, node in above.value.items():
        entries[key] = _over(entries[key], node) if key in entries else node
    return replace(above, value=entries)


def filled(root: Node) -> Node:
    """The tree with `auth.keys_file`, and with `max_body` of routes that have none of their own."""
    root = with_default(root, ("auth", "keys_file"), quoted_scalar(str(AuthSettings().keys_file)))
    routes = root.at("routes")
    if routes is None or not isinstance(routes.value, list):
        return root
    largest = root.text_at("server", "max_body") or units.format_size(_DEFAULT_SERVER_MAX_BODY)
    bodies = replace(routes, value=[_with_max_body(route, largest) for route in routes.value])
    return replace(root, value={**root.entries, "routes": bodies})


def _with_max_body(route: Node, largest: str) -> Node:
    """With uploads: as large as the server takes; else the default, but never more than that."""
    try:
        is_default_too_large = units.parse_size(largest) < _DEFAULT_ROUTE_MAX_BODY
    except ValueError:
        return route
    has_uploads = (route.text_at("uploads") or "").lower() == "true"
    if not has_uploads and not is_default_too_large:
        return route
    return with_default(route, ("max_body",), Scalar(largest, Kind.EXPANDED, largest))


@dataclass(frozen=True, slots=True)
class NotImplementedKey:
    """One key that is not available yet; `*` in its path stands for every entry."""

    path: tuple[str, ...]
    is_used: Callable[[Node], bool]
    instead: str


def _has_several(node: Node) -> bool:
    return len(node.items) > 1


NOT_YET = (NotImplementedKey(("upstreams", "*", "servers"), _has_several, "write one server"),)


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


def load(path: Path, environ: Mapping[str, str], *, workers: int | None = None) -> Config:
    """The configuration of a YAML file.

    Args:
        path: the file.
        environ: where placeholders are looked up.
        workers: instead of `server.workers`; what contradicts it is a mistake as if it stood in the file.

    Raises:
        ConfigError: with every mistake of the file at once.
    """
    mistakes = Mistakes(str(path))
    written = read_tree(path, environ, mistakes)
    if written is None:
        mistakes.raise_if_any()
        raise ConfigError([])
    if workers is not None:
        written = with_default(written, ("server", "workers"), plain_scalar(str(workers)), wins=True)
    root = with_defaults(written)
    config = validate(filled(root), path.parent, mistakes)
    check(root, mistakes)
    check_availability(root, mistakes)
    mistakes.raise_if_any()
    if config is None:
        raise ConfigError([])
    return config
