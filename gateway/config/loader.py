"""From a file or the environment to a `Config`, step by step; each step notes its mistakes and goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from msgspec.structs import replace

from gateway.config.checks import check
from gateway.config.environment import environment_tree, variable_of
from gateway.config.hints import warn
from gateway.config.model import AuthSettings, Config
from gateway.config.path_checks import check_paths
from gateway.config.port_checks import check_tls
from gateway.config.problems import ConfigError, Kind, Mistake, Mistakes
from gateway.config.proxies import Proxies, read_proxies
from gateway.config.proxy_checks import check_proxies
from gateway.config.route import RouteKeys
from gateway.config.server import ServerSettings
from gateway.config.tree import Node, Scalar, ScalarKind, plain_scalar, quoted_scalar, with_default
from gateway.config.validation import validate
from gateway.config.values import format_size, parse_size
from gateway.config.yaml_reader import read_tree
from gateway.records import DiscreetRecord

Overrides = Mapping[str, str | Sequence[str]]  # of a key like server.listen
_NONE: Overrides = MappingProxyType({})
_SERVER_MAX_BODY = ServerSettings().max_body
_ROUTE_MAX_BODY = RouteKeys().max_body


class Reading(DiscreetRecord, frozen=True):
    """What is in a file or the environment, as far as it can be read.

    Attributes:
        config: the configuration; None if there are mistakes, but for those that only keep it from working.
        keys_file: the keys file that is named; None if there is none, or a mistake in its name.
        route_names: the names of the routes that have one.
        mistakes: all mistakes, absences and warnings, in the order of the file.
        of_keys: those of the mistakes that leave open which keys file is meant.
        tree: what is written, with its lines; None if it cannot be read.
    """

    config: Config | None
    keys_file: Path | None
    route_names: tuple[str, ...]
    mistakes: tuple[Mistake, ...]
    of_keys: tuple[Mistake, ...]
    tree: Node | None = None

    @property
    def warnings(self) -> list[Mistake]:
        return [mistake for mistake in self.mistakes if mistake.is_warning]


def load(path: Path, environ: Mapping[str, str], overrides: Overrides = _NONE) -> Config:
    """The configuration of a YAML file.

    Args:
        path: the file.
        environ: where placeholders are looked up.
        overrides: texts that replace keys of the file, and are checked like them.

    Raises:
        ConfigError: with every mistake of the file at once.
    """
    return usable(read(path, environ, overrides))


def load_environment(environ: Mapping[str, str], overrides: Overrides = _NONE) -> Config:
    """The configuration of environment variables alone; file names are relative to the working folder.

    Raises:
        ConfigError: with every mistake at once, each with the name of its variable.
    """
    return usable(read_environment(environ, overrides))


def usable(reading: Reading) -> Config:
    """The configuration that was read.

    Raises:
        ConfigError: there are mistakes.
    """
    wrong = [mistake for mistake in reading.mistakes if not mistake.is_warning]
    if reading.config is None or wrong:
        raise ConfigError(wrong)
    return reading.config


def read(
    path: Path,
    environ: Mapping[str, str],
    overrides: Overrides = _NONE,
    *,
    stream: BinaryIO | None = None,
) -> Reading:
    """What is in a file, or in a stream in its place; the other arguments are those of `load`."""
    mistakes = Mistakes(str(path))
    written = read_tree(path, environ, mistakes, stream=stream)
    if written is None:
        found = tuple(mistakes.in_order)
        return Reading(None, None, (), found, tuple(one for one in found if not one.is_warning))
    return _reading(written, path.parent, overrides, mistakes, read_proxies(environ))


def read_environment(environ: Mapping[str, str], overrides: Overrides = _NONE) -> Reading:
    """What is in the environment; the arguments are those of `load_environment`."""
    mistakes = Mistakes("environment")
    tree = environment_tree(environ, mistakes)
    reading = _reading(tree, Path(), overrides, mistakes, read_proxies(environ))
    named = [tuple(sorted(set(map(variable_of, found)))) for found in (reading.mistakes, reading.of_keys)]
    return replace(reading, mistakes=named[0], of_keys=named[1])


def _reading(
    written: Node, folder: Path, overrides: Overrides, mistakes: Mistakes, proxies: Proxies
) -> Reading:
    for key, text in overrides.items():
        written = with_default(written, key.split("."), _overriding(key, text), wins=True)
    root = _merge_defaults(written)
    filled = _fill(root)
    config = validate(filled, folder, mistakes, written)
    if config is not None:
        config = config.through(proxies)
    check(root, mistakes)
    check_tls(root, folder, mistakes)
    check_paths(root, folder, mistakes)
    check_proxies(root, proxies, mistakes)
    warn(root, mistakes)
    found = tuple(mistakes.in_order)
    wrong = [mistake for mistake in found if not mistake.is_warning]
    of_keys = tuple(mistake for mistake in wrong if mistake.key in ("", "auth", "auth.keys_file"))
    keys_file = filled.text_at("auth", "keys_file")
    return Reading(
        config=config if all(mistake.kind is Kind.FUTILE for mistake in wrong) else None,
        keys_file=folder / keys_file if keys_file and not of_keys else None,
        route_names=_names(root),
        mistakes=found,
        of_keys=of_keys,
        tree=root,
    )


def _overriding(key: str, text: str | Sequence[str]) -> Scalar | list[Node]:
    if isinstance(text, str):
        return plain_scalar(text)
    return [Node(f"{key}[{at}]", 0, plain_scalar(one)) for at, one in enumerate(text)]


def _names(root: Node) -> tuple[str, ...]:
    routes = root.at("routes")
    return tuple(name for route in (routes.items if routes else ()) if (name := route.text_at("name")))


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
    """With files the maximum of the server; else the default of a route, at most the maximum of the server."""
    try:
        is_default_too_large = parse_size(largest) < _ROUTE_MAX_BODY
    except ValueError:
        return route
    takes_files = any((route.text_at(key) or "").lower() == "true" for key in ("uploads", "upsert"))
    if not takes_files and not is_default_too_large:
        return route
    return with_default(route, ("max_body",), Scalar(largest, ScalarKind.EXPANDED, largest))
