"""Cross references of routes: with each other, with upstreams, server limits and sources of credentials."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config import units
from gateway.config.addresses import parse_url
from gateway.config.model import ServerSettings
from gateway.config.problems import Mistakes
from gateway.config.tree import Node, Scalar
from gateway.config.words import instead

_COUNTS = ("requests", "tokens", "concurrent")


def check_routes(root: Node, mistakes: Mistakes) -> None:
    """Note every contradiction of a tree whose routes have `defaults` merged in."""
    routes = _items(root, "routes")
    for key in ("name", "chatflow"):
        _unique(routes, key, "another route", mistakes)
    for route in routes:
        _upstream(root, route, mistakes)
        _max_body(root, route, mistakes)
        _credentials(root, route, mistakes)
        limits = _items(route, "limits")
        _unique(limits, "name", "another limit", mistakes)
        for limit in limits:
            _limit(limit, mistakes)
    _binding(root, routes, mistakes)


def _items(node: Node, key: str) -> list[Node]:
    below = node.at(key)
    return [] if below is None else below.items


def _unique(nodes: list[Node], key: str, other: str, mistakes: Mistakes) -> None:
    first: dict[str, int] = {}
    for node in nodes:
        if text := node.text_at(key):
            line, path = node.place_of(key)
            text = text.lower() if key == "chatflow" else text
            if text in first:
                mistakes.add(line, path, f"{other}, in line {first[text]}, has it already: write another one")
            first.setdefault(text, line)


def _upstream(root: Node, route: Node, mistakes: Mistakes) -> None:
    node, upstreams = route.at("upstream"), root.at("upstreams")
    if node is None or not isinstance(node.value, Scalar) or not node.text or upstreams is None:
        return
    if upstreams.entries and node.text not in upstreams.entries:
        meant = instead(node.text, upstreams.entries)
        mistakes.add(node.line, node.path, f"there is no upstream {node.value.shown}: {meant}")


def _max_body(root: Node, route: Node, mistakes: Mistakes) -> None:
    own, largest = route.at("max_body"), root.at("server", "max_body")
    if own is None:
        return
    limit = units.format_size(ServerSettings().max_body) if largest is None else largest.text
    try:
        is_above = units.parse_size(own.text or "") > units.parse_size(limit or "")
    except ValueError:
        return
    if is_above:
        mistakes.add(
            own.line, own.path, "is above server.max_body: write at most that, or raise server.max_body"
        )


def _credentials(root: Node, route: Node, mistakes: Mistakes) -> None:
    auth, keys_file = root.at("auth"), root.at("auth", "keys_file")
    has_keys = keys_file is None or keys_file.is_broken or bool(keys_file.text)
    has_issuers = auth is not None and bool(_items(auth, "jwt"))
    for method in _items(route, "auth"):
        if method.text in ("api_key", "session") and not has_keys:
            mistakes.add(method.line, method.path, "has no source: write auth.keys_file, like keys.yaml")
        elif method.text == "jwt" and not has_issuers:
            mistakes.add(method.line, method.path, "has no source: write an issuer into auth.jwt")


def _limit(limit: Node, mistakes: Mistakes) -> None:
    if not isinstance(limit.value, dict):
        return
    counts = [key for key in _COUNTS if key in limit.entries]
    if len(counts) != 1:
        mistakes.add(
            limit.line, limit.path, "counts none or several things: write one of requests, tokens, concurrent"
        )
    for key, message in _contradictions(counts, limit.entries):
        line, path = limit.place_of(key)
        mistakes.add(line, path, message)


def _contradictions(counts: list[str], written: dict[str, Node]) -> Iterator[tuple[str, str]]:
    if counts in (["requests"], ["tokens"]) and "per" not in written:
        yield "per", "is missing: write the time in which the whole is refilled, like per: 1m"
    if counts == ["concurrent"] and "per" in written:
        yield "per", "says nothing with concurrent: leave it out"
    if counts and "requests" not in counts and "burst" in written:
        yield "burst", "belongs to requests only: leave it out"
    if counts and "tokens" not in counts and "reserve" in written:
        yield "reserve", "belongs to tokens only: leave it out"


def _binding(root: Node, routes: list[Node], mistakes: Mistakes) -> None:
    """Ids of one Flowise are either all mapped or all as they came, else both kinds of routes would mix."""
    first: dict[str, tuple[str, int]] = {}
    for route in routes:
        upstream, bind = route.text_at("upstream"), _bind(route)
        if upstream is None or bind is None:
            continue
        known, line = first.setdefault(_home(root, upstream), (bind, route.line))
        if known != bind:
            message = f"differs from the route in line {line}, of the same Flowise: write the same on both"
            mistakes.add(route.line, f"{route.path}.conversations.bind", message)


def _home(root: Node, upstream: str) -> str:
    """The Flowise behind the name of an upstream: two names may mean the same server."""
    servers = root.at("upstreams", upstream, "servers")
    try:
        return str(parse_url((servers.items[0].text_at("url") or "") if servers and servers.items else ""))
    except ValueError:
        return upstream


def _bind(route: Node) -> str | None:
    if route.at("conversations", "bind") is None:
        return "true"
    text = (route.text_at("conversations", "bind") or "").lower()
    return text if text in ("true", "false") else None
