"""From a file or the environment to a `Config`, step by step; each step notes its mistakes and goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from gateway.config.checks import check
from gateway.config.environment import environment_tree, variable_of
from gateway.config.model import AuthSettings, Config, ServerSettings
from gateway.config.problems import ConfigError, Mistakes
from gateway.config.route import RouteKeys
from gateway.config.tree import Node, Scalar, ScalarKind, plain_scalar, quoted_scalar, with_default
from gateway.config.validation import validate
from gateway.config.values import format_size, parse_size
from gateway.config.yaml_reader import read_tree

Overrides = Mapping[str, str]  # of a key like server.listen
_NONE: Overrides = MappingProxyType({})
_SERVER_MAX_BODY = ServerSettings().max_body
_ROUTE_MAX_BODY = RouteKeys().max_body


@dataclass(frozen=True, slots=True)
class NotImplementedKey:
    """A use of a key that is not implemented yet; `*` in its path stands for every entry."""

    path: tuple[str, ...]
    is_used: Callable[[Node], bool]
    remedy: str


def _has_several(node: Node) -> bool:
    return len(node.items) > 1


NOT_IMPLEMENTED = (NotImplementedKey(("upstreams", "*", "servers"), _has_several, "write one server"),)


def load(path: Path, environ: Mapping[str, str], overrides: Overrides = _NONE) -> Config:
    """The configuration of a YAML file.

    Args:
        path: the file.
        environ: where placeholders are looked up.
        overrides: texts that replace keys of the file, and are checked like them.

    Raises:
        ConfigError: with every mistake of the file at once.
    """
    mistakes = Mistakes(str(path))
    written = read_tree(path, environ, mistakes)
    if written is None:
        mistakes.raise_if_any()
        raise ConfigError([])
    return _config(written, path.parent, overrides, mistakes)


def load_environment(environ: Mapping[str, str], overrides: Overrides = _NONE) -> Config:
    """The configuration of environment variables alone; file names are relative to the working folder.

    Raises:
        ConfigError: with every mistake at once, each with the name of its variable.
    """
    mistakes = Mistakes("environment")
    try:
        return _config(environment_tree(environ, mistakes), Path(), overrides, mistakes)
    except ConfigError as error:
        raise ConfigError(sorted({variable_of(mistake) for mistake in error.mistakes})) from None


def _config(written: Node, folder: Path, overrides: Overrides, mistakes: Mistakes) -> Config:
    for key, text in overrides.items():
        written = with_default(written, key.split("."), plain_scalar(text), wins=True)
    root = _merge_defaults(written)
    config = validate(_fill(root), folder, mistakes)
    check(root, mistakes)
    _check_implemented(root, mistakes)
    mistakes.raise_if_any()
    if config is None:
        raise ConfigError([])
    return config


def _merge_defaults(root: Node) -> Node:
    """Put each route over `defaults`: mappings merge key by key at every depth, everything else is replaced."""
    routes, defaults = root.at("routes"), root.at("defaults")
    if routes is None or defaults is None or not isinstance(routes.value, list):
        return root
    merged = replace(routes, value=[_merge(defaults, route) for route in routes.value])
    return replace(root, value={**root.entries, "routes": merged})


def _merge(below: Node, above: Node) -> Node:
    if not isinstance(below.value, dict) or not isinstance(above.value, dict):
        return above
    entries = dict(below.value)
    for key, node in above.value.items():
        entries[key] = _merge(entries[key], node) if key in entries else node
    return replace(above, value=entries)


def _fill(root: Node) -> Node:
    """Put in the defaults that depend on the file: `auth.keys_file` on its folder, `max_body` on other keys."""
    root = with_default(root, ("auth", "keys_file"), quoted_scalar(str(AuthSettings().keys_file)))
    routes = root.at("routes")
    if routes is None or not isinstance(routes.value, list):
        return root
    largest = root.text_at("server", "max_body") or format_size(_SERVER_MAX_BODY)
    filled = replace(routes, value=[_with_max_body(route, largest) for route in routes.value])
    return replace(root, value={**root.entries, "routes": filled})


def _with_max_body(route: Node, largest: str) -> Node:
    """With uploads the maximum of the server; else the default of a route, at most the maximum of the server."""
    try:
        is_default_too_large = parse_size(largest) < _ROUTE_MAX_BODY
    except ValueError:
        return route
    has_uploads = (route.text_at("uploads") or "").lower() == "true"
    if not has_uploads and not is_default_too_large:
        return route
    return with_default(route, ("max_body",), Scalar(largest, ScalarKind.EXPANDED, largest))


def _check_implemented(root: Node, mistakes: Mistakes) -> None:
    for key in NOT_IMPLEMENTED:
        for node in _nodes(root, key.path):
            if key.is_used(node):
                mistakes.add(node.line, node.path, f"is not available yet: {key.remedy}")


def _nodes(node: Node, path: tuple[str, ...]) -> Iterator[Node]:
    if not path:
        yield node
    elif path[0] == "*":
        for below in (*node.entries.values(), *node.items):
            yield from _nodes(below, path[1:])
    elif (entry := node.at(path[0])) is not None:
        yield from _nodes(entry, path[1:])
