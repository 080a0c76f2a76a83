"""The tree as the gateway means it: `defaults` merged into routes, values that follow from others filled in.

Works on what was written, before types, so that a mistake in `defaults` is told once and where it stands.
What has the wrong shape stays as it is; `validation` says so.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.config import units
from gateway.config.model import AuthSettings, ServerSettings
from gateway.config.route import RouteKeys
from gateway.config.tree import Kind, Node, Scalar, quoted_scalar, with_default

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
